//! A prompt enters, its continuation leaves token by token: prefill, decode, stop, cancel. The only loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use web_time::Instant;

use crate::error::{Error, Result};
use crate::model::{MAX_BATCH, Model};
use crate::sampler::{Sampler, Sampling, top_logprobs};
use crate::tokenizer::{TokenStream, Tokenizer};

/// Tokens of a prefill step on an adapter that computes on the CPU: a step cannot be cancelled.
const SOFTWARE_BATCH: usize = 32;

/// What to generate.
#[derive(Clone, PartialEq, Debug)]
pub struct GenerateOptions {
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The text ends before the first of these. None may be empty; they need a tokenizer.
    pub stop: Vec<String>,
    /// How many of the most probable tokens to report with each token.
    pub n_top: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_tokens: 256, sampling: Sampling::default(), stop: Vec::new(), n_top: 0 }
    }
}

/// Stops a generation from elsewhere, within one token. Clones stop the same one.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the generation to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Aborted("the generation was cancelled".into())) } else { Ok(()) }
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FinishReason {
    /// The model ended its text.
    Eos,
    /// A stop string came.
    Stop,
    /// As many tokens came as were asked for.
    Length,
    /// The context is full.
    Context,
}

impl FinishReason {
    /// The reason's name: `"eos"`, `"stop"`, `"length"` or `"context"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Context => "context",
        }
    }
}

/// What a token added to the text.
#[derive(Clone, PartialEq, Debug)]
pub struct Piece {
    /// The token; absent for text that was held back until the end.
    pub id: Option<u32>,
    /// Text that is certain now, in whole characters: what the last bytes of an unfinished character or the
    /// beginning of a stop string hold back comes with a later piece. Empty without a tokenizer.
    pub text: String,
    /// The token's log-probability under the model.
    pub logprob: Option<f32>,
    /// The most probable tokens, best first, where asked for.
    pub top: Vec<(u32, f32)>,
}

/// A finished generation.
#[derive(Clone, PartialEq, Debug)]
pub struct Generation {
    /// The prompt's tokens.
    pub prompt_ids: Vec<u32>,
    /// The generated tokens, without the one that ended the text.
    pub ids: Vec<u32>,
    /// Their text, up to a stop string.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The seed that was used.
    pub seed: u64,
    /// Milliseconds from the start until the prompt was computed.
    pub prompt_ms: f64,
    /// Milliseconds from then until the end.
    pub decode_ms: f64,
    /// Milliseconds from the start until the first token.
    pub ttft_ms: f64,
    /// Microseconds that the host took to encode and submit a decode step, on average; 0 without one.
    pub encode_us_per_token: f64,
}

/// Continues `prompt_ids` from an empty context. `on_piece` is called once for every token, as it comes, and once
/// more if text was held back. Without a tokenizer there are ids alone.
///
/// # Errors
///
/// [`Error::InvalidArgument`] for an option or id outside its range or an empty prompt, [`Error::ContextFull`] for a
/// prompt longer than the context, [`Error::Aborted`] when cancelled, and what the device reported.
pub async fn generate(
    model: &mut Model,
    tokenizer: Option<&Tokenizer>,
    prompt_ids: &[u32],
    options: &GenerateOptions,
    cancel: &Cancel,
    mut on_piece: impl FnMut(&Piece),
) -> Result<Generation> {
    if prompt_ids.is_empty() {
        return Err(Error::InvalidArgument("the prompt has no tokens; give at least one".into()));
    }
    let mut text = Text::new(tokenizer, prompt_ids, &options.stop)?;
    let seed = options.sampling.seed.unwrap_or_else(random_seed);
    let mut sampler = Sampler::new(&options.sampling, seed, prompt_ids)?;
    model.check_fits(prompt_ids)?;

    let start = Instant::now();
    let elapsed_ms = || start.elapsed().as_secs_f64() * 1e3;
    model.truncate(0);
    prefill(model, prompt_ids, cancel).await?;
    let mut logits = model.read_logits().await?;
    let prompt_ms = elapsed_ms();

    let mut ids = Vec::new();
    let mut ttft_ms = prompt_ms;
    let (mut encode_us, mut n_steps) = (0.0, 0_u32);
    let finish_reason = loop {
        cancel.check()?;
        if ids.len() >= options.max_tokens {
            break FinishReason::Length;
        }
        let top = if options.n_top > 0 { top_logprobs(&logits, options.n_top)? } else { Vec::new() };
        let choice = sampler.sample(&logits)?;
        if model.config().eos_token_ids.contains(&choice.id) {
            break FinishReason::Eos;
        }
        if ids.is_empty() {
            ttft_ms = elapsed_ms();
        }
        ids.push(choice.id);
        // The next step runs on the device while this token's text is decoded here.
        let is_last = ids.len() >= options.max_tokens;
        let has_room = model.context().len() < model.max_seq();
        if !is_last && has_room {
            let begin = Instant::now();
            model.step(&[choice.id], 0..1)?;
            encode_us += begin.elapsed().as_secs_f64() * 1e6;
            n_steps += 1;
        }
        let certain = text.push(choice.id)?;
        on_piece(&Piece { id: Some(choice.id), text: certain, logprob: Some(choice.logprob), top });
        if text.is_stopped {
            break FinishReason::Stop;
        }
        if is_last {
            break FinishReason::Length;
        }
        if !has_room {
            break FinishReason::Context;
        }
        logits = model.read_logits().await?;
    };
    model.wait().await?;
    let rest = text.finish();
    if !rest.is_empty() {
        on_piece(&Piece { id: None, text: rest, logprob: None, top: Vec::new() });
    }
    let decode_ms = elapsed_ms() - prompt_ms;
    Ok(Generation {
        prompt_ids: prompt_ids.to_vec(),
        ids,
        text: text.all,
        finish_reason,
        seed,
        prompt_ms,
        decode_ms,
        ttft_ms,
        encode_us_per_token: encode_us / f64::from(n_steps.max(1)),
    })
}

/// Runs the prompt in steps, and submits the logits of its last token.
async fn prefill(model: &mut Model, ids: &[u32], cancel: &Cancel) -> Result<()> {
    let batch_len = if model.gpu().is_software() { SOFTWARE_BATCH } else { MAX_BATCH };
    let n_batches = ids.len().div_ceil(batch_len);
    for (i, batch) in ids.chunks(batch_len).enumerate() {
        cancel.check()?;
        let is_last = i + 1 == n_batches;
        model.step(batch, if is_last { batch.len() - 1..batch.len() } else { 0..0 })?;
        if !is_last {
            model.wait().await?;
        }
    }
    Ok(())
}

/// A seed that differs from call to call.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's own random keys, on every target; small enough for a JavaScript number.
    RandomState::new().hash_one(0) & 0xffff_ffff
}

/// The text as it grows, held back where a stop string may have begun.
struct Text<'a> {
    stream: Option<TokenStream>,
    stop: &'a [String],
    /// Text that is not certain yet.
    held: String,
    /// Text that is.
    all: String,
    is_stopped: bool,
}

impl<'a> Text<'a> {
    fn new(tokenizer: Option<&Tokenizer>, prompt_ids: &[u32], stop: &'a [String]) -> Result<Self> {
        if stop.iter().any(String::is_empty) {
            return Err(Error::InvalidArgument("a stop text is empty; give at least one character".into()));
        }
        if tokenizer.is_none() && !stop.is_empty() {
            return Err(Error::InvalidArgument("stop texts need a tokenizer, which this model came without".into()));
        }
        let stream = tokenizer.map(|tokenizer| tokenizer.stream_after(prompt_ids));
        Ok(Self { stream, stop, held: String::new(), all: String::new(), is_stopped: false })
    }

    /// Takes a token; returns the text that is certain now.
    fn push(&mut self, id: u32) -> Result<String> {
        if let Some(stream) = &mut self.stream {
            self.held += &stream.push(id)?;
        }
        Ok(self.release(false))
    }

    /// Returns the text that was held back to the end.
    fn finish(&mut self) -> String {
        if self.is_stopped {
            return String::new();
        }
        if let Some(stream) = &mut self.stream {
            self.held += &stream.finish();
        }
        self.release(true)
    }

    fn release(&mut self, is_end: bool) -> String {
        let found = self.stop.iter().filter_map(|stop| self.held.find(stop)).min();
        let certain = if let Some(at) = found {
            self.is_stopped = true;
            at
        } else if is_end {
            self.held.len()
        } else {
            self.held.len() - self.longest_beginning()
        };
        let rest = self.held.split_off(certain);
        let text = std::mem::replace(&mut self.held, rest);
        self.all += &text;
        text
    }

    /// Bytes at the end of the held text that begin a stop string.
    fn longest_beginning(&self) -> usize {
        let beginnings = self.held.char_indices().map(|(at, _)| &self.held[at..]);
        beginnings.filter(|end| self.stop.iter().any(|stop| stop.starts_with(end))).map(str::len).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `parts` as if they were tokens' text; returns what was released at each, and at the end.
    fn release(stop: &[&str], parts: &[&str]) -> (Vec<String>, bool) {
        let stop: Vec<String> = stop.iter().map(|text| (*text).to_owned()).collect();
        let mut text = Text { stream: None, stop: &stop, held: String::new(), all: String::new(), is_stopped: false };
        let mut released = Vec::new();
        for part in parts {
            text.held += part;
            released.push(text.release(false));
            if text.is_stopped {
                return (released, true);
            }
        }
        released.push(text.finish());
        let is_stopped = text.is_stopped;
        (released, is_stopped)
    }

    #[test]
    fn stop_strings_are_found_across_tokens() {
        assert_eq!(release(&["END"], &["a E", "N", "D b"]), (vec!["a ".into(), String::new(), String::new()], true));
        assert_eq!(release(&["END"], &["a E", "Nx"]), (vec!["a ".into(), "ENx".into(), String::new()], false));
        assert_eq!(release(&["END"], &["a EN"]), (vec!["a ".into(), "EN".into()], false));
        assert_eq!(release(&["b", "ab"], &["xab"]), (vec!["x".into()], true));
        assert_eq!(release(&["éé"], &["é", "ö"]), (vec![String::new(), "éö".into(), String::new()], false));
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(random_seed(), random_seed());
    }
}
