//! Options that commands share, and what they stand for: files, tokens, a loaded model.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use helium_webgpu::Error;
use helium_webgpu::files::ModelFiles;
use helium_webgpu::gpu::{FeatureChoice, Gpu, GpuOptions, LimitChoice};
use helium_webgpu::loader::LoadOptions;
use helium_webgpu::model::{Kernels, Model};
use helium_webgpu::recipe::Recipe;
use helium_webgpu::tokenizer::Tokenizer;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Result;
use crate::tuning;

/// The model.
#[derive(clap::Args)]
pub(crate) struct ModelArgs {
    /// A GGUF file, or a folder with config.json, *.safetensors and tokenizer.json
    model: PathBuf,
    /// A tokenizer.json to use instead of the model's own
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
}

impl ModelArgs {
    /// A model with another tokenizer, or its own.
    pub(crate) fn new(model: PathBuf, tokenizer: Option<PathBuf>) -> Self {
        Self { model, tokenizer }
    }

    /// Whether another tokenizer than the model's own was given.
    pub(crate) fn has_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

    /// The name and the bytes of the tokenizer.json that was given, or lies beside the weights.
    pub(crate) fn tokenizer_json(&self, files: &ModelFiles) -> Result<Option<(String, Vec<u8>)>> {
        Ok(files.tokenizer_json(self.tokenizer.as_deref())?)
    }

    /// The model's files.
    pub(crate) fn find(&self) -> Result<ModelFiles> {
        Ok(ModelFiles::find(&self.model)?)
    }

    /// Refuses to write over what is read.
    pub(crate) fn check_apart(&self, files: &ModelFiles, out: &Path) -> Result<()> {
        if !files.contains(out, self.tokenizer.as_deref()) {
            return Ok(());
        }
        let out = out.display();
        Err(Error::InvalidArgument(format!("{out} is read and cannot be written: name another file")).into())
    }

    /// Where a tokenizer alone is to be looked for.
    pub(crate) fn tokenizer_path(&self) -> &PathBuf {
        self.tokenizer.as_ref().unwrap_or(&self.model)
    }

    /// The tokenizer, if the model has one.
    pub(crate) fn tokenizer(&self, files: &ModelFiles) -> Result<Option<Tokenizer>> {
        Ok(files.tokenizer(self.tokenizer.as_deref())?)
    }

    /// The tokenizer where text is to be encoded or found in the output.
    pub(crate) fn needed_tokenizer(&self, files: &ModelFiles) -> Result<Tokenizer> {
        self.tokenizer(files)?.ok_or_else(|| self.no_tokenizer().into())
    }

    /// The tokenizer where ids do without: one that was not asked for and cannot be read is passed over.
    pub(crate) fn optional_tokenizer(&self, files: &ModelFiles) -> Result<Option<Tokenizer>> {
        match self.tokenizer(files) {
            Err(_) if self.tokenizer.is_none() => Ok(None),
            tokenizer => tokenizer,
        }
    }

    /// The error for text without a tokenizer.
    pub(crate) fn no_tokenizer(&self) -> Error {
        Error::InvalidArgument(format!(
            "{} has no tokenizer: there is neither a tokenizer.json beside the weights nor a vocabulary within them; \
             give one with --tokenizer FILE, or tokens with --ids",
            self.tokenizer_path().display()
        ))
    }
}

/// Given tokens.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Input {
    /// Text, encoded as the tokenizer says, with its first token (BOS)
    #[arg(long, allow_hyphen_values = true)]
    text: Option<String>,
    /// Token ids, exactly these
    #[arg(long, value_name = "ID,…", allow_hyphen_values = true)]
    ids: Option<Ids>,
}

impl Input {
    /// The tokens, and the tokenizer if there is one.
    pub(crate) fn resolve(&self, model: &ModelArgs, files: &ModelFiles) -> Result<(Vec<u32>, Option<Tokenizer>)> {
        resolve(self.text.as_deref(), self.ids.as_ref(), model, files)
    }
}

/// The tokens of `text` or, without, those in `ids`; and the tokenizer if there is one.
pub(crate) fn resolve(
    text: Option<&str>,
    ids: Option<&Ids>,
    model: &ModelArgs,
    files: &ModelFiles,
) -> Result<(Vec<u32>, Option<Tokenizer>)> {
    if let Some(text) = text {
        let tokenizer = model.needed_tokenizer(files)?;
        return Ok((tokenizer.encode(text)?, Some(tokenizer)));
    }
    Ok((ids.map(|ids| ids.0.clone()).unwrap_or_default(), model.optional_tokenizer(files)?))
}

/// Token ids on the command line: `1,2,3`.
#[derive(Clone, Debug)]
pub(crate) struct Ids(pub(crate) Vec<u32>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parse = |id: &str| {
            let id = id.trim();
            id.parse().map_err(|_| format!("{id:?} is no token id; expected whole numbers and commas, such as 1,2,3"))
        };
        text.split(',').map(parse).collect::<std::result::Result<_, _>>().map(Self)
    }
}

/// A whole number above 0.
pub(crate) fn positive(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number of at least 1".into()),
        Ok(n) => Ok(n),
    }
}

/// The device, and the context on it.
#[derive(clap::Args)]
pub(crate) struct GpuArgs {
    /// Use the adapter whose name, driver or backend contains this
    #[arg(long, value_name = "SUBSTRING")]
    adapter: Option<String>,
    /// The device's limits: WebGPU's defaults, or all that the adapter offers
    #[arg(long, value_enum, default_value = "adapter")]
    limits: Limits,
    /// Optional features: none, or those that are useful and offered
    #[arg(long, value_enum, default_value = "auto")]
    features: Features,
    /// Tokens the context holds [default: what the model was trained for, up to 4096]
    #[arg(long, value_name = "N", value_parser = positive, allow_negative_numbers = true)]
    context: Option<usize>,
    /// Quantise matrices of F32, F16 and BF16 while they load
    #[arg(long, value_name = "q8_0|q4_0|q4_k_m|q6_k|f16")]
    quantize: Option<Recipe>,
    /// Kernels to use: the fastest as measured once, the fastest of those that do not round activations, those that
    /// round them to 8 bits, or those that every device has
    #[arg(long, value_name = "auto|exact|rounded|baseline", default_value = "auto")]
    kernels: Kernels,
}

#[derive(Clone, Copy, ValueEnum)]
enum Limits {
    Default,
    Adapter,
}

#[derive(Clone, Copy, ValueEnum)]
enum Features {
    None,
    Auto,
}

impl GpuArgs {
    /// Opens the device.
    pub(crate) async fn open(&self) -> Result<Gpu> {
        let gpu_options = GpuOptions {
            adapter: self.adapter.clone(),
            limits: match self.limits {
                Limits::Default => LimitChoice::Default,
                Limits::Adapter => LimitChoice::Adapter,
            },
            features: match self.features {
                Features::None => FeatureChoice::None,
                Features::Auto => FeatureChoice::Auto,
            },
            ..GpuOptions::default()
        };
        Ok(Gpu::open(&gpu_options).await?)
    }

    /// Opens the device and loads the model, with a progress bar if it takes long and somebody watches.
    pub(crate) async fn load(&self, files: &ModelFiles) -> Result<Model> {
        let gpu = Rc::new(self.open().await?);
        let options = LoadOptions { context_length: self.context, quantize: self.quantize, kernels: self.kernels };
        let mut progress = Progress::new("loading", true);
        let tuning = tuning::read();
        let model = files.load(gpu, options, tuning.clone(), &mut |done, total| progress.set(done, total)).await;
        progress.clear();
        let model = model?;
        tuning::write(model.tuning(), &tuning);
        Ok(model)
    }
}

/// A bar on stderr for what takes long; nothing where that is no terminal.
pub(crate) struct Progress {
    begin: Instant,
    bar: Option<ProgressBar>,
    template: String,
}

impl Progress {
    /// `what` is done to bytes, or to something else.
    pub(crate) fn new(what: &str, to_bytes: bool) -> Self {
        let [figures, speed] =
            if to_bytes { ["{bytes}/{total_bytes}", ", {bytes_per_sec}"] } else { ["{percent}%", ""] };
        let template = format!("{what} [{{bar:30}}] {figures}{speed}, {{eta}} left");
        Self { begin: Instant::now(), bar: None, template }
    }

    pub(crate) fn set(&mut self, done: u64, total: u64) {
        if self.bar.is_none() && self.begin.elapsed() > Duration::from_millis(300) {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            self.bar = Some(match ProgressStyle::with_template(&self.template) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            });
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
