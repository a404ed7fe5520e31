//! `helium tokenize`: text enters, its tokens leave. No GPU is needed.

use helium_webgpu::files::find_tokenizer;
use serde::Serialize;

use crate::args::ModelArgs;
use crate::output::{Result, print_json, print_lines};

/// Print the tokens of a text. MODEL may also be a tokenizer.json.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text
    #[arg(long, allow_hyphen_values = true)]
    text: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    ids: Vec<u32>,
    pieces: Vec<String>,
}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let path = self.model.tokenizer_path();
        let tokenizer = find_tokenizer(path)?.ok_or_else(|| self.model.no_tokenizer())?;
        let ids = tokenizer.encode(&self.text)?;
        let pieces: Vec<String> = ids.iter().map(|id| tokenizer.piece(*id).unwrap_or_default()).collect();
        if self.json {
            return print_json(&Report { ids, pieces });
        }
        let lines: Vec<String> = ids.iter().zip(&pieces).map(|(id, piece)| format!("{id:>7}  {piece}")).collect();
        if lines.is_empty() { Ok(()) } else { print_lines(&lines) }
    }
}
