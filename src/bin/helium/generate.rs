//! `helium generate`: a prompt enters; its continuation streams to stdout, and how fast it came to stderr.

use std::time::Instant;

use helium_webgpu::sampler::Sampling;
use helium_webgpu::session::{Cancel, GenerateOptions, Generation, generate};
use serde::Serialize;

use crate::args::{GpuArgs, Ids, ModelArgs, resolve};
use crate::output::{Failure, Result, note, print, print_json};

/// Continue a text, which streams to stdout; without a tokenizer, token ids do.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: Prompt,
    /// Most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 256, allow_negative_numbers = true)]
    max_tokens: usize,
    /// 0 takes the most probable token each time; higher is more varied
    #[arg(long, value_name = "T", default_value_t = Sampling::default().temperature, allow_negative_numbers = true)]
    temperature: f32,
    /// Choose among the K most probable tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = Sampling::default().top_k, allow_negative_numbers = true)]
    top_k: usize,
    /// Choose among the fewest tokens that together are this probable
    #[arg(long, value_name = "P", default_value_t = Sampling::default().top_p, allow_negative_numbers = true)]
    top_p: f32,
    /// Choose among tokens at least this fraction as probable as the best
    #[arg(long, value_name = "P", default_value_t = Sampling::default().min_p, allow_negative_numbers = true)]
    min_p: f32,
    /// Make tokens of the prompt and the text so far less probable, above 1
    #[arg(long, value_name = "R", default_value_t = Sampling::default().repetition_penalty, allow_negative_numbers = true)]
    repetition_penalty: f32,
    /// Subtract this from the logits of tokens generated before
    #[arg(long, value_name = "P", default_value_t = Sampling::default().presence_penalty, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// Subtract this from the logits of tokens generated before, each time
    #[arg(long, value_name = "F", default_value_t = Sampling::default().frequency_penalty, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// Draw the same text again; random without
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    seed: Option<u64>,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    stop: Vec<String>,
    /// Print one JSON object at the end instead
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gpu: GpuArgs,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Prompt {
    /// The text to continue, encoded as the tokenizer says, with its first token (BOS)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// The token ids to continue, exactly these
    #[arg(long, value_name = "ID,…", allow_hyphen_values = true)]
    ids: Option<Ids>,
}

#[derive(Serialize)]
struct Report<'a> {
    prompt_ids: &'a [u32],
    ids: &'a [u32],
    text: &'a str,
    finish_reason: &'static str,
    seed: u64,
    timings: Timings,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names in the JSON object")]
struct Timings {
    load_ms: f64,
    prompt_ms: f64,
    decode_ms: f64,
    ttft_ms: f64,
}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: Vec::new(),
            seed: self.seed,
        };
        sampling.check().map_err(|error| Failure::Usage(error.to_string()))?;
        let options = GenerateOptions { max_tokens: self.max_tokens, sampling, stop: self.stop.clone(), n_top: 0 };
        pollster::block_on(self.generate(&options))
    }

    async fn generate(&self, options: &GenerateOptions) -> Result<()> {
        let files = self.model.find()?;
        let (prompt_ids, mut tokenizer) =
            resolve(self.prompt.prompt.as_deref(), self.prompt.ids.as_ref(), &self.model, &files)?;
        if tokenizer.is_none() && !options.stop.is_empty() {
            tokenizer = Some(self.model.needed_tokenizer(&files)?);
        }
        let begin = Instant::now();
        let mut model = self.gpu.load(&files).await?;
        let load_ms = begin.elapsed().as_secs_f64() * 1e3;

        // A reader that went away ends the generation.
        let cancel = Cancel::default();
        let mut written = Ok(());
        let mut n_printed = 0;
        let result = generate(&mut model, tokenizer.as_ref(), &prompt_ids, options, &cancel, |piece| {
            if self.json || written.is_err() {
                return;
            }
            written = match piece.id {
                Some(id) if tokenizer.is_none() => print(&format!("{}{id}", if n_printed > 0 { " " } else { "" })),
                _ => print(&piece.text),
            };
            n_printed += 1;
            if written.is_err() {
                cancel.cancel();
            }
        })
        .await;
        written?;
        let generation = result?;
        if self.json {
            return report(&generation, load_ms);
        }
        print("\n")?;
        let n_steps = model.context().len() - prompt_ids.len();
        let adapter = model.gpu().adapter_name();
        statistics(&generation, n_steps, &adapter, load_ms);
        Ok(())
    }
}

fn report(generation: &Generation, load_ms: f64) -> Result<()> {
    let Generation { prompt_ms, decode_ms, ttft_ms, .. } = *generation;
    print_json(&Report {
        prompt_ids: &generation.prompt_ids,
        ids: &generation.ids,
        text: &generation.text,
        finish_reason: generation.finish_reason.name(),
        seed: generation.seed,
        timings: Timings { load_ms, prompt_ms, decode_ms, ttft_ms },
    })
}

/// `n_steps`: decode steps that were waited for, which is what decoding took its time for; the first token comes
/// without one.
fn statistics(generation: &Generation, n_steps: usize, adapter: &str, load_ms: f64) {
    let Generation { prompt_ids, ids, finish_reason, seed, prompt_ms, decode_ms, ttft_ms, .. } = generation;
    let rate = |n: usize, ms: f64| if n > 0 { format!(" ({:.2} tok/s)", n as f64 / ms * 1e3) } else { String::new() };
    let (n_prompt, n_ids) = (prompt_ids.len(), ids.len());
    note(&format!("loaded in {:.2} s on {adapter}", load_ms / 1e3));
    note(&format!(
        "prompt: {n_prompt} tokens in {:.2} s{}; first token after {:.2} s",
        prompt_ms / 1e3,
        rate(n_prompt, *prompt_ms),
        ttft_ms / 1e3
    ));
    note(&format!(
        "generated: {n_ids} tokens in {:.2} s{}; finish reason: {}; seed: {seed}",
        decode_ms / 1e3,
        rate(n_steps, *decode_ms),
        finish_reason.name()
    ));
}
