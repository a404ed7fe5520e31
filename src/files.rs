//! A model's files on disk: a path enters; which files belong to it, what their headers say, its tokenizer and,
//! read in portions through the one [`Loader`], the [`Model`] leave. Native only; what the bytes mean is others'
//! business.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::format::safetensors::Index;
use crate::format::{Header, Progress, TensorInfo, parse_header};
use crate::gpu::Gpu;
use crate::loader::{LoadOptions, Loader};
use crate::model::{Model, Tuning};
use crate::tokenizer::{GgufVocab, Tokenizer};

/// Bytes read at once while loading.
const PIECE_BYTES: u64 = 4 << 20;

/// Bytes handed to the device at once, while those before are on their way: both take memory outside it.
const FLUSH_BYTES: u64 = 16 << 20;

/// Bytes of a file to begin parsing a header with.
const HEAD_BYTES: u64 = 64 << 10;

/// The most bytes of a JSON file. Real ones have up to 40 MB; a checkpoint given by mistake has more.
const MAX_JSON_BYTES: u64 = 256 << 20;

/// Which of the shards holds what.
const INDEX: &str = "model.safetensors.index.json";

/// The files of a model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelFiles {
    /// A GGUF file, or safetensors files in order; at least one.
    weights: Vec<PathBuf>,
    /// The config.json that safetensors need.
    config: Option<PathBuf>,
    /// The tokenizer.json beside the weights, if there is one.
    tokenizer: Option<PathBuf>,
}

/// What a model's files say without their weights being read.
#[derive(Clone, PartialEq, Debug)]
pub struct Inspection {
    /// `"gguf"` or `"safetensors"`.
    pub format: &'static str,
    /// What the model looks like.
    pub config: ModelConfig,
    /// All tensors, in the order of the files.
    pub tensors: Vec<TensorInfo>,
    /// Bytes of all weight files together.
    pub file_bytes: u64,
}

impl ModelFiles {
    /// Finds the files of the model at `path`.
    ///
    /// A file is the weights themselves; safetensors take the config.json beside them. In a folder,
    /// `model.safetensors` is taken, else the shards in `model.safetensors.index.json`, else every
    /// `*.safetensors`, else the one `*.gguf`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for what is not there, config.json and shards included, and for a folder that holds no model or
    /// several; [`Error::Corrupt`] for a damaged index.
    pub fn find(path: &Path) -> Result<Self> {
        match kind(path)? {
            Kind::Folder => Self::find_in(path),
            Kind::File => {
                let folder = path.parent().unwrap_or(Path::new(""));
                if has_extension(path, "safetensors") {
                    Self::checkpoint(folder, vec![path.to_owned()])
                } else {
                    Ok(Self { weights: vec![path.to_owned()], config: None, tokenizer: tokenizer_in(folder) })
                }
            }
        }
    }

    fn find_in(folder: &Path) -> Result<Self> {
        let (whole, index) = (folder.join("model.safetensors"), folder.join(INDEX));
        if whole.is_file() {
            return Self::checkpoint(folder, vec![whole]);
        }
        if index.is_file() {
            let shards = Index::parse(&name(&index), &read_text(&index)?)?.shards;
            let weights: Vec<PathBuf> = shards.iter().map(|shard| folder.join(shard)).collect();
            let missing: Vec<&PathBuf> = weights.iter().filter(|shard| !shard.is_file()).collect();
            if let Some(first) = missing.first() {
                return Err(Error::Io(format!(
                    "{} is missing ({} of {} shards are), which {} names; download it too",
                    name(first),
                    missing.len(),
                    weights.len(),
                    name(&index)
                )));
            }
            return Self::checkpoint(folder, weights);
        }
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
            paths.push(entry.map_err(|error| unreadable(folder, &error))?.path());
        }
        paths.sort();
        let with_extension = |extension| -> Vec<PathBuf> {
            paths.iter().filter(|path| has_extension(path, extension)).cloned().collect()
        };
        let shards = with_extension("safetensors");
        if !shards.is_empty() {
            return Self::checkpoint(folder, shards);
        }
        let ggufs = with_extension("gguf");
        match (&ggufs[..], folder.join("config.json").is_file()) {
            ([_], _) => Ok(Self { weights: ggufs, config: None, tokenizer: tokenizer_in(folder) }),
            ([], true) => Err(Error::Io(format!(
                "{}: config.json is there, but no weights: expected *.safetensors or a .gguf file",
                name(folder)
            ))),
            ([], false) => Err(Error::Io(format!(
                "{} holds no model: expected config.json with *.safetensors, or a .gguf file; found {} other entries",
                name(folder),
                paths.len()
            ))),
            ([first, ..], _) => {
                let n_files = ggufs.len();
                Err(Error::Io(format!(
                    "{} holds {n_files} .gguf files; name the one to use, such as {}",
                    name(folder),
                    name(first)
                )))
            }
        }
    }

    /// Safetensors and what must be beside them.
    fn checkpoint(folder: &Path, weights: Vec<PathBuf>) -> Result<Self> {
        let config = folder.join("config.json");
        if config.is_file() {
            return Ok(Self { weights, config: Some(config), tokenizer: tokenizer_in(folder) });
        }
        Err(Error::Io(format!(
            "{} is missing; the safetensors beside it need the model's configuration",
            name(&config)
        )))
    }

    /// The weights: a GGUF file, or safetensors files in order.
    #[must_use]
    pub fn weights(&self) -> &[PathBuf] {
        &self.weights
    }

    /// Whether `path` leads to one of them, or to the tokenizer `given` beside them.
    #[must_use]
    pub fn contains(&self, path: &Path, given: Option<&Path>) -> bool {
        let Ok(path) = path.canonicalize() else { return false };
        let index = self.config.as_ref().map(|config| config.with_file_name(INDEX));
        let all = self.weights.iter().chain(&self.config).chain(&self.tokenizer).chain(&index).map(PathBuf::as_path);
        all.chain(given).filter_map(|other| other.canonicalize().ok()).any(|other| other == path)
    }

    /// Reads the headers alone.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Corrupt`] and [`Error::UnsupportedModel`], as for a model to be loaded. That the
    /// tensors fit the configuration is only checked when they are loaded.
    pub fn inspect(&self) -> Result<Inspection> {
        let (config, headers) = self.headers()?;
        let format = if self.config.is_some() { "safetensors" } else { "gguf" };
        let (mut tensors, mut file_bytes) = (Vec::new(), 0);
        for (path, header) in headers {
            tensors.extend(header.tensors);
            file_bytes += open(&path)?.1;
        }
        Ok(Inspection { format, config, tensors, file_bytes })
    }

    /// The configuration, and the headers of all weight files.
    ///
    /// # Errors
    ///
    /// As [`ModelFiles::inspect`].
    pub fn headers(&self) -> Result<(ModelConfig, Vec<(PathBuf, Header)>)> {
        let mut config = self.read_config()?;
        let mut headers = Vec::new();
        for path in &self.weights {
            let (header, _) = read_header(path)?;
            if config.is_none() {
                config = Some(ModelConfig::from_gguf(&header)?);
            }
            headers.push((path.clone(), header));
        }
        let config = config.ok_or_else(|| Error::Internal("a model without files".into()))?;
        Ok((config, headers))
    }

    /// The name and the bytes of the tokenizer.json `given`, else of the one beside the weights, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where it cannot be read.
    pub fn tokenizer_json(&self, given: Option<&Path>) -> Result<Option<(String, Vec<u8>)>> {
        let Some(path) = given.or(self.tokenizer.as_deref()) else { return Ok(None) };
        Ok(Some((name(path), read_json(path)?)))
    }

    /// The tokenizer: the one `given`, else the tokenizer.json beside the weights, else a GGUF file's own vocabulary,
    /// else none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Corrupt`] and [`Error::UnsupportedModel`] for the first of these that is there, and
    /// [`Error::InvalidArgument`] for a file of another model.
    pub fn tokenizer(&self, given: Option<&Path>) -> Result<Option<Tokenizer>> {
        let tokenizer = self.any_tokenizer(given)?;
        if let (Some(tokenizer), Some(path)) = (&tokenizer, given.or(self.tokenizer.as_deref())) {
            let fits = tokenizer.check_fits(self.headers()?.0.vocab_size);
            fits.map_err(|error| Error::InvalidArgument(format!("{}: {error}", name(path))))?;
        }
        Ok(tokenizer)
    }

    /// The same, without a look at the model.
    fn any_tokenizer(&self, given: Option<&Path>) -> Result<Option<Tokenizer>> {
        match (given.or(self.tokenizer.as_deref()), &self.config, self.weights.first()) {
            (Some(path), ..) => read_tokenizer(path),
            (None, None, Some(gguf)) => gguf_tokenizer(gguf),
            _ => Ok(None),
        }
    }

    /// Loads the model, with what an earlier load found out about the device. `progress` is told how many bytes of how
    /// many are read.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and as [`Loader`].
    pub async fn load(
        &self,
        gpu: Rc<Gpu>,
        options: LoadOptions,
        tuning: Tuning,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Model> {
        let mut total = 0;
        for path in &self.weights {
            // With several files, a damaged last one should not cost the reading of those before.
            total += if self.weights.len() > 1 { read_header(path)?.1 } else { open(path)?.1 };
        }
        let mut loader = Loader::new(gpu, options);
        loader.set_tuning(tuning);
        if let Some(config) = self.read_config()? {
            loader.set_config(config);
        }
        let mut piece = Vec::new();
        let (mut done, mut unflushed) = (0, 0);
        for path in &self.weights {
            let (mut file, size) = open(path)?;
            loader.begin_file(&name(path), Some(size))?;
            let mut left = size;
            while left > 0 {
                piece.clear();
                let wanted = (&mut file).take(PIECE_BYTES.min(left));
                let n_bytes = { wanted }.read_to_end(&mut piece).map_err(|error| unreadable(path, &error))? as u64;
                if n_bytes == 0 {
                    break; // the file became shorter: the loader sees what is missing
                }
                loader.push(&piece)?;
                left -= n_bytes;
                done += n_bytes;
                unflushed += n_bytes;
                if unflushed >= FLUSH_BYTES {
                    loader.flush().await?;
                    unflushed = 0;
                }
                progress(done, total);
            }
            loader.end_file()?;
        }
        loader.finish().await
    }

    fn read_config(&self) -> Result<Option<ModelConfig>> {
        let Some(path) = &self.config else { return Ok(None) };
        ModelConfig::from_json(&name(path), &read_text(path)?).map(Some)
    }
}

/// The tokenizer at `path`: a tokenizer.json, a model's folder or its GGUF file, without need of more than its
/// tokenizer. `None` where it has none.
///
/// # Errors
///
/// As [`ModelFiles::find`] and [`ModelFiles::tokenizer`].
pub fn find_tokenizer(path: &Path) -> Result<Option<Tokenizer>> {
    let beside = match kind(path)? {
        Kind::Folder => tokenizer_in(path),
        Kind::File if is_gguf(path)? || has_extension(path, "safetensors") => None,
        Kind::File => Some(path.to_owned()),
    };
    match beside {
        Some(path) => read_tokenizer(&path),
        None => ModelFiles::find(path)?.any_tokenizer(None),
    }
}

/// Reads a tokenizer.json, or the vocabulary of a GGUF file.
fn read_tokenizer(path: &Path) -> Result<Option<Tokenizer>> {
    if is_gguf(path)? { gguf_tokenizer(path) } else { Tokenizer::from_json(&name(path), &read_json(path)?).map(Some) }
}

fn gguf_tokenizer(path: &Path) -> Result<Option<Tokenizer>> {
    let (header, _) = read_header(path)?;
    GgufVocab::from_metadata(&header.file, &header.metadata)?.map(Tokenizer::from_gguf).transpose()
}

fn tokenizer_in(folder: &Path) -> Option<PathBuf> {
    Some(folder.join("tokenizer.json")).filter(|path| path.is_file())
}

fn is_gguf(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    open(path)?.0.take(4).read_to_end(&mut head).map_err(|error| unreadable(path, &error))?;
    Ok(head == b"GGUF")
}

/// Reads as much of a file as its header takes; gives the file's size too.
fn read_header(path: &Path) -> Result<(Header, u64)> {
    let name = name(path);
    let (mut file, size) = open(path)?;
    let mut bytes = Vec::new();
    let mut needed = HEAD_BYTES.min(size);
    loop {
        let missing = needed - bytes.len() as u64;
        (&mut file).take(missing).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
        let n_bytes = bytes.len() as u64;
        match parse_header(&name, &bytes, Some(size))? {
            Progress::Done(header) => return Ok((header, size)),
            Progress::NeedMore(more) if n_bytes == needed && more > n_bytes => needed = more,
            Progress::NeedMore(more) => {
                return Err(Error::Corrupt(format!(
                    "{name} is truncated: its header needs {more} bytes but the file has {n_bytes}; download it again"
                )));
            }
        }
    }
}

fn read_json(path: &Path) -> Result<Vec<u8>> {
    let (file, size) = open(path)?;
    if size > MAX_JSON_BYTES {
        return Err(Error::Corrupt(format!(
            "{} has {size} bytes; a JSON file of at most {MAX_JSON_BYTES} was expected",
            name(path)
        )));
    }
    let mut bytes = Vec::new();
    file.take(MAX_JSON_BYTES).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    Ok(bytes)
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = read_json(path)?;
    String::from_utf8(bytes).map_err(|error| Error::Corrupt(format!("{} is not UTF-8 text: {error}", name(path))))
}

enum Kind {
    File,
    Folder,
}

/// Looks before anything is opened: opening a pipe would wait for ever.
fn kind(path: &Path) -> Result<Kind> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if metadata.is_dir() {
        Ok(Kind::Folder)
    } else if metadata.is_file() {
        Ok(Kind::File)
    } else {
        Err(Error::Io(format!("{} is neither a file nor a folder", name(path))))
    }
}

fn open(path: &Path) -> Result<(File, u64)> {
    if matches!(kind(path)?, Kind::Folder) {
        return Err(Error::Io(format!("{} is a folder; a file was expected", name(path))));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let size = file.metadata().map_err(|error| unreadable(path, &error))?.len();
    Ok((file, size))
}

pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::Io(format!("{} cannot be read: {error}", name(path)))
}

/// A path as messages spell it.
fn name(path: &Path) -> String {
    path.display().to_string()
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|found| found.eq_ignore_ascii_case(extension))
}
