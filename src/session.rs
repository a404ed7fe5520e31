//! A prompt enters, its continuation leaves token by token: prefill, decode, stop, cancel. The only loop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use web_time::Instant;

use crate::error::{Error, Result};
use crate::model::{Model, Picked, Ticket};
use crate::sampler::{Choice, Sampler, Sampling, top_logprobs};
use crate::tokenizer::{TokenStream, Tokenizer};

/// How long, in milliseconds, the device should have work without hearing from the host: browsers may tell only every
/// 100 ms that a step is done.
const AHEAD_MS: f64 = 100.0;

/// Most steps under way besides the one that is waited for.
pub(crate) const MAX_AHEAD: usize = 64;

/// How long a step of the prompt may take, in milliseconds: it cannot be cancelled, and nothing else is drawn meanwhile.
/// Browsers may tell only every 100 ms that it is done.
const STEP_MS: f64 = 150.0;

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

/// Stops a generation from elsewhere, within one token, or a scoring. Clones stop the same one.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks it to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error once it was asked to; `what` was under way.
    pub(crate) fn check(&self, what: &str) -> Result<()> {
        if self.is_cancelled() { Err(Error::Aborted(format!("the {what} was cancelled"))) } else { Ok(()) }
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
    /// How many of them were in the context already.
    pub n_reused: usize,
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

/// Continues `prompt_ids`. What the context holds of them already is kept; only the rest is computed. `on_piece` is
/// called once for every token, as it comes, and once more if text was held back. Without a tokenizer there are ids
/// alone.
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
    model.check_fits(prompt_ids)?;
    let mut tokens = Tokens::new(model, prompt_ids, options, seed)?;

    let start = Instant::now();
    let elapsed_ms = || start.elapsed().as_secs_f64() * 1e3;
    let n_reused = keep_common(model, prompt_ids);
    let last = prefill(model, &prompt_ids[n_reused..], cancel).await?;
    tokens.begin(model, last)?;
    if options.max_tokens == 0 {
        model.wait().await?;
    }

    let mut ids = Vec::new();
    let mut prompt_ms = None;
    let finish_reason = loop {
        if ids.len() >= options.max_tokens {
            break FinishReason::Length;
        }
        if prompt_ids.len() + ids.len() > model.max_seq() {
            break FinishReason::Context;
        }
        cancel.check("generation")?;
        let (choice, top) = tokens.next(model).await?;
        prompt_ms.get_or_insert_with(elapsed_ms);
        if model.config().eos_token_ids.contains(&choice.id) {
            break FinishReason::Eos;
        }
        ids.push(choice.id);
        let certain = text.push(choice.id)?;
        on_piece(&Piece { id: Some(choice.id), text: certain, logprob: Some(choice.logprob), top });
        if text.is_stopped {
            break FinishReason::Stop;
        }
    };
    // Steps that were submitted ahead of the end computed tokens that nobody asked for.
    model.truncate(prompt_ids.len() + ids.len());
    let rest = text.finish();
    if !rest.is_empty() {
        on_piece(&Piece { id: None, text: rest, logprob: None, top: Vec::new() });
    }
    let total_ms = elapsed_ms();
    let prompt_ms = prompt_ms.unwrap_or(total_ms);
    Ok(Generation {
        prompt_ids: prompt_ids.to_vec(),
        n_reused,
        ids,
        text: text.all,
        finish_reason,
        seed,
        prompt_ms,
        decode_ms: total_ms - prompt_ms,
        ttft_ms: prompt_ms,
        encode_us_per_token: tokens.encode_us / f64::from(tokens.n_steps.max(1)),
    })
}

/// Cuts the context back to what it has in common with `prompt_ids`, but for the last of them, whose logits are
/// needed; returns how many tokens are left.
fn keep_common(model: &mut Model, prompt_ids: &[u32]) -> usize {
    let common = model.context().iter().zip(prompt_ids).take_while(|(old, new)| old == new).count();
    model.truncate(common.min(prompt_ids.len() - 1));
    model.context().len()
}

/// Runs the prompt in steps, but for the last, which it returns.
async fn prefill<'a>(model: &mut Model, ids: &'a [u32], cancel: &Cancel) -> Result<&'a [u32]> {
    let mut rest = ids;
    while rest.len() > model.batch_len() {
        cancel.check("generation")?;
        let (batch, after) = rest.split_at(model.batch_len());
        let begin = Instant::now();
        model.step(batch, 0..0)?;
        model.wait().await?;
        model.set_quick(begin.elapsed().as_secs_f64() * 1e3 < STEP_MS);
        rest = after;
    }
    cancel.check("generation")?;
    Ok(rest)
}

/// Where tokens come from, one after another.
struct Tokens {
    /// Chooses on the host, from logits that are read back: where the device cannot decide, or alternatives are asked
    /// for.
    sampler: Sampler,
    n_top: usize,
    is_on_host: bool,
    /// Choices of the device that are under way.
    ahead: VecDeque<Ticket>,
    /// The last token, where the next step needs it from the host.
    last: Option<u32>,
    /// Tokens to submit steps for, at most.
    n_wanted: usize,
    /// Since when tokens are counted, and how many came since.
    since: Option<(Instant, u32)>,
    /// Steps to have under way besides the one that is waited for.
    n_ahead: usize,
    encode_us: f64,
    n_steps: u32,
}

impl Tokens {
    fn new(model: &mut Model, prompt_ids: &[u32], options: &GenerateOptions, seed: u64) -> Result<Self> {
        model.begin_picks(&options.sampling, seed, prompt_ids)?;
        Ok(Self {
            sampler: Sampler::new(&options.sampling, seed, prompt_ids)?,
            n_top: options.n_top,
            is_on_host: options.n_top > 0,
            ahead: VecDeque::new(),
            last: None,
            n_wanted: options.max_tokens,
            since: None,
            n_ahead: usize::from(!model.gpu().is_software()),
            encode_us: 0.0,
            n_steps: 0,
        })
    }

    /// Submits the last step of the prompt.
    fn begin(&mut self, model: &mut Model, ids: &[u32]) -> Result<()> {
        if self.is_on_host || self.n_wanted == 0 {
            return model.step(ids, ids.len() - 1..ids.len());
        }
        self.n_wanted -= 1;
        self.ahead.push_back(model.step_and_pick(Some(ids))?);
        Ok(())
    }

    /// The next token, and the most probable ones where asked for.
    async fn next(&mut self, model: &mut Model) -> Result<(Choice, Vec<(u32, f32)>)> {
        if !self.is_on_host {
            self.submit_ahead(model)?;
            let Some(ticket) = self.ahead.pop_front() else {
                return Err(Error::Internal("no step was submitted for the next token".into()));
            };
            let pos = ticket.pos();
            match model.picked(ticket).await? {
                Picked::Token(choice) => {
                    self.pace();
                    self.sampler.note(choice.id);
                    return Ok((choice, Vec::new()));
                }
                Picked::Undecided => {
                    // From here on the host chooses. The last step is repeated, for its logits.
                    self.is_on_host = true;
                    self.ahead.clear();
                    let id = model.context()[pos - 1];
                    model.truncate(pos - 1);
                    model.step(&[id], 0..1)?;
                }
            }
        }
        if let Some(id) = self.last.take() {
            let begin = Instant::now();
            model.step(&[id], 0..1)?;
            self.encode_us += begin.elapsed().as_secs_f64() * 1e6;
            self.n_steps += 1;
        }
        let logits = model.read_logits().await?;
        let top = if self.n_top > 0 { top_logprobs(&logits, self.n_top)? } else { Vec::new() };
        let choice = self.sampler.sample(&logits)?;
        self.last = Some(choice.id);
        Ok((choice, top))
    }

    /// Notes that a token came. Half as many again as come in `AHEAD_MS` are to be under way: so the number grows from one
    /// until the device has work all the time, also where a browser tells of all that is done at once, and seldom. An adapter
    /// that computes on the CPU gets none: lavapipe keeps who submits to a busy queue waiting, in Firefox the thread that
    /// draws all windows.
    fn pace(&mut self) {
        let (since, n) = self.since.map_or_else(|| (Instant::now(), 0), |(since, n)| (since, n + 1));
        let elapsed_ms = since.elapsed().as_secs_f64() * 1e3;
        self.since = Some((since, n));
        if elapsed_ms >= AHEAD_MS && self.n_ahead > 0 {
            let per_wait = f64::from(n) * AHEAD_MS / elapsed_ms;
            self.n_ahead = ((1.5 * per_wait).ceil() as usize).clamp(1, MAX_AHEAD);
            self.since = Some((Instant::now(), 0));
        }
    }

    /// Submits steps ahead of those that are known, so that the device need not wait for the host.
    fn submit_ahead(&mut self, model: &mut Model) -> Result<()> {
        while self.ahead.len() <= self.n_ahead && self.n_wanted > 0 && model.context().len() < model.max_seq() {
            let begin = Instant::now();
            self.ahead.push_back(model.step_and_pick(None)?);
            self.encode_us += begin.elapsed().as_secs_f64() * 1e6;
            self.n_steps += 1;
            self.n_wanted -= 1;
        }
        Ok(())
    }
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
