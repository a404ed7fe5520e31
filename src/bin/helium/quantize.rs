//! `helium quantize`: a model's files enter, one GGUF file of fewer bits leaves.

use std::path::PathBuf;
use std::time::Instant;

use helium_webgpu::Error;
use helium_webgpu::convert::{self, Checkpoint, Source, Written};
use helium_webgpu::files::ModelFiles;
use helium_webgpu::recipe::Recipe;
use helium_webgpu::tokenizer;
use serde::Serialize;

use crate::args::{ModelArgs, Progress};
use crate::output::{Result, note, print_json, print_lines};

/// Write a model as one GGUF file, its weights in fewer bits, its vocabulary within.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    out: OutArgs,
}

/// What is written, and where.
#[derive(clap::Args)]
pub(crate) struct OutArgs {
    /// What matrices become
    #[arg(long = "type", value_name = "q8_0|q4_0|q4_k_m|q6_k|f16")]
    recipe: Recipe,
    /// The GGUF file to write; one that is there is replaced when the new one is whole
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    out: String,
    r#type: &'a str,
    bytes: u64,
    parameters: u64,
    bits_per_weight: f64,
    seconds: f64,
}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let files = self.model.find()?;
        self.model.check_apart(&files, &self.out.out)?;
        let checkpoint = open(&self.model, &files)?;
        self.out.write(&checkpoint)
    }
}

/// The weights with, if possible, a vocabulary.
pub(crate) fn open(model: &ModelArgs, files: &ModelFiles) -> Result<Checkpoint> {
    let mut checkpoint = Checkpoint::open(files)?;
    let json = model.tokenizer_json(files)?;
    if checkpoint.metadata().contains("tokenizer.ggml.model") && !model.has_tokenizer() {
        return Ok(checkpoint);
    }
    let Some((name, bytes)) = json else {
        note(&format!(
            "note: {} comes without a tokenizer.json: the file will have no vocabulary",
            model.tokenizer_path().display()
        ));
        return Ok(checkpoint);
    };
    let config = checkpoint.config().clone();
    match tokenizer::export(&name, &bytes, &config, checkpoint.metadata_mut()) {
        Ok(()) => {}
        // The weights are as good without.
        Err(Error::UnsupportedModel(why)) => {
            note(&format!("note: the file will have no vocabulary, keep the tokenizer.json beside it: {why}"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(checkpoint)
}

impl OutArgs {
    /// Writes the file, with a progress bar if it takes long and somebody watches.
    pub(crate) fn write(&self, source: &dyn Source) -> Result<()> {
        let begin = Instant::now();
        let mut progress = Progress::new("writing", false);
        let Written { bytes, .. } =
            convert::write(source, self.recipe, &self.out, &mut |done, total| progress.set(done, total))?;
        progress.clear();
        let parameters = source.config().parameters();
        let report = Report {
            out: self.out.display().to_string(),
            r#type: self.recipe.name(),
            bytes,
            parameters,
            bits_per_weight: bytes as f64 * 8.0 / parameters as f64,
            seconds: begin.elapsed().as_secs_f64(),
        };
        if self.json {
            return print_json(&report);
        }
        print_lines(&[format!(
            "{}: {} bytes, {:.2} bits a weight, in {:.1} s",
            report.out, report.bytes, report.bits_per_weight, report.seconds
        )])
    }
}
