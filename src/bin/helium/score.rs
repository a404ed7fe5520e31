//! `helium score`: a text enters, the log-probability of each of its tokens leaves.

use helium_webgpu::score::{Score, score};
use helium_webgpu::session::Cancel;
use helium_webgpu::tokenizer::Tokenizer;
use serde::Serialize;

use crate::args::{GpuArgs, Input, ModelArgs};
use crate::output::{Result, print_json, print_lines};

/// Print the log-probability of each token given those before it.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: Input,
    /// Also the N tokens that were most probable at each position
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    top: usize,
    /// Print one JSON object; the first token has no log-probability and no alternatives, but null
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gpu: GpuArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    ids: &'a [u32],
    logprobs: &'a [Option<f32>],
    mean_nll: f64,
    perplexity: f64,
    /// As long as `ids`; null for the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<Vec<Option<Vec<Alternative>>>>,
}

#[derive(Serialize)]
struct Alternative {
    id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    piece: Option<String>,
    logprob: f32,
}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        pollster::block_on(async {
            let files = self.model.find()?;
            let (ids, tokenizer) = self.input.resolve(&self.model, &files)?;
            let mut model = self.gpu.load(&files).await?;
            let score = score(&mut model, &ids, self.top, &Cancel::default()).await?;
            if self.json { self.report(&score, tokenizer.as_ref()) } else { table(&score, tokenizer.as_ref()) }
        })
    }

    fn report(&self, score: &Score, tokenizer: Option<&Tokenizer>) -> Result<()> {
        let alternatives = |top: &Vec<(u32, f32)>| {
            let alternative = |(id, logprob): &(u32, f32)| Alternative {
                id: *id,
                piece: tokenizer.and_then(|tokenizer| tokenizer.piece(*id)),
                logprob: *logprob,
            };
            Some(top.iter().map(alternative).collect())
        };
        let top = (self.top > 0).then(|| [None].into_iter().chain(score.top.iter().map(alternatives)).collect());
        let (ids, logprobs, mean_nll) = (&score.ids, &score.logprobs, score.mean_nll);
        print_json(&Report { ids, logprobs, mean_nll, perplexity: score.perplexity(), top })
    }
}

fn table(score: &Score, tokenizer: Option<&Tokenizer>) -> Result<()> {
    let piece = |id: u32| tokenizer.and_then(|tokenizer| tokenizer.piece(id)).unwrap_or_default();
    let mut lines = vec![format!("{:>6}  {:>7}  {:>9}  piece", "pos", "id", "logprob")];
    for (pos, (id, logprob)) in score.ids.iter().zip(&score.logprobs).enumerate() {
        let logprob = logprob.map_or("-".into(), |logprob| format!("{logprob:.4}"));
        lines.push(format!("{pos:>6}  {id:>7}  {logprob:>9}  {}", piece(*id)));
        let top = pos.checked_sub(1).and_then(|pos| score.top.get(pos));
        for (id, logprob) in top.into_iter().flatten() {
            lines.push(format!("{:>6}  {id:>7}  {logprob:>9.4}    {}", "", piece(*id)));
        }
    }
    lines.push(format!("mean NLL {:.6}, perplexity {:.4}", score.mean_nll, score.perplexity()));
    print_lines(&lines)
}
