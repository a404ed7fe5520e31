//! A model enters, how fast it runs leaves, and how near that is to what the device can do at most.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use web_time::Instant;

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::model::{Model, Traced};
use crate::sampler::{Sampling, uniform};
use crate::session::MAX_AHEAD;

/// What to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BenchOptions {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens to decode after it.
    pub decode_tokens: usize,
    /// Runs, after one that is not counted.
    pub runs: usize,
    /// Whether to time every dispatch of a prompt and of a decode step by itself, too.
    pub trace: bool,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self { prompt_tokens: 128, decode_tokens: 32, runs: 3, trace: false }
    }
}

/// A figure of several runs.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

/// What the runs came to. Figures of several runs are medians.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// The adapter's name.
    pub adapter: String,
    /// Tokens of the prompt in a second.
    pub prefill_tps: f64,
    /// Decoded tokens in a second.
    pub decode_tps: f64,
    /// Milliseconds to the first token.
    pub ttft_ms: f64,
    /// Dispatches of a decode step.
    pub dispatches_per_token: usize,
    /// Host time to encode and submit a decode step, without waiting.
    pub encode_us_per_token: f64,
    /// Bytes of weights on the device.
    pub weight_bytes: u64,
    /// Bytes of the KV cache.
    pub kv_bytes: u64,
    /// Bytes of all buffers.
    pub gpu_bytes: u64,
    /// Bytes read by the fastest copy from buffer to buffer, which writes as many, by its time.
    pub read_gbps: f64,
    /// Multiplications and additions in f32 that the device does at most.
    pub peak_gflops: f64,
    /// Bytes of weights and cache that a decode step must read, by its time.
    pub decode_gbps: f64,
    /// The share of `read_gbps` that this is.
    pub roofline: f64,
    /// The spread of `prefill_tps`, `decode_tps`, `ttft_ms` and `encode_us_per_token`.
    pub spread: BTreeMap<&'static str, Spread>,
    /// The kernels that decode, by the time they take.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub decode_trace: Vec<KernelTime>,
    /// The kernels of the prompt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefill_trace: Vec<KernelTime>,
}

/// What all dispatches of a kernel took together.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct KernelTime {
    /// The kernel's label, which spells its variant.
    pub kernel: String,
    /// Dispatches.
    pub count: usize,
    /// Milliseconds.
    pub ms: f64,
    /// Bytes of weights, keys and values by time.
    pub gbps: f64,
    /// Floating-point operations by time.
    pub gflops: f64,
}

/// Measures `model` on random tokens, from an empty context on.
///
/// # Errors
///
/// [`Error::ContextFull`] for more tokens than the context holds, [`Error::InvalidArgument`] for none, and what the
/// device reported.
pub async fn bench(model: &mut Model, options: &BenchOptions) -> Result<Report> {
    let BenchOptions { prompt_tokens, decode_tokens, runs: n_runs, trace } = *options;
    if prompt_tokens == 0 || decode_tokens == 0 || n_runs == 0 {
        return Err(Error::InvalidArgument("a benchmark needs a prompt, tokens to decode and a run".into()));
    }
    if prompt_tokens.saturating_add(decode_tokens) > model.max_seq() {
        return Err(Error::ContextFull(format!(
            "{prompt_tokens} tokens of prompt and {decode_tokens} to decode do not fit the context of {}; give fewer, \
             or a longer context, up to {}",
            model.max_seq(),
            model.config().context_length
        )));
    }
    let ids = random_ids(model.config(), prompt_tokens);
    // The first run makes the driver compile and allocate what it left for later.
    measure(model, &ids, decode_tokens, &mut Runs::default()).await?;
    let mut runs = Runs::default();
    for _ in 0..n_runs {
        measure(model, &ids, decode_tokens, &mut runs).await?;
    }
    let (decode_trace, prefill_trace) = if trace { traces(model, &ids).await? } else { (Vec::new(), Vec::new()) };

    let spreads = [
        ("prefill_tps", spread(&runs.prefill_tps)),
        ("decode_tps", spread(&runs.decode_tps)),
        ("ttft_ms", spread(&runs.ttft_ms)),
        ("encode_us_per_token", spread(&runs.encode_us)),
    ];
    let [prefill_tps, decode_tps, ttft_ms, encode_us_per_token] = spreads.map(|(_, spread)| spread.median);
    let decode_gbps = bytes_per_token(model, prompt_tokens, decode_tokens) * decode_tps / 1e9;
    let read_gbps = model.gpu().copy_gbps().await?;
    Ok(Report {
        adapter: model.gpu().adapter_name(),
        prefill_tps,
        decode_tps,
        ttft_ms,
        dispatches_per_token: runs.dispatches_per_token,
        encode_us_per_token,
        weight_bytes: model.weight_bytes(),
        kv_bytes: model.kv_bytes(),
        gpu_bytes: model.gpu().allocated_bytes(),
        read_gbps,
        peak_gflops: model.gpu().gflops().await?,
        decode_gbps,
        roofline: decode_gbps / read_gbps,
        spread: spreads.into_iter().collect(),
        decode_trace,
        prefill_trace,
    })
}

/// What the runs measured, a number a run.
#[derive(Default)]
struct Runs {
    prefill_tps: Vec<f64>,
    decode_tps: Vec<f64>,
    ttft_ms: Vec<f64>,
    /// A number a token.
    encode_us: Vec<f64>,
    dispatches_per_token: usize,
}

/// Tokens that are the same in every run and on every machine, without those that end a text.
fn random_ids(config: &ModelConfig, n: usize) -> Vec<u32> {
    let draw = |i| (uniform(1, i) * config.vocab_size as f64) as u32;
    let drawn = (0..).map(draw).filter(|id| !config.eos_token_ids.contains(id));
    // A vocabulary of nothing else would never give one.
    if config.vocab_size > config.eos_token_ids.len() { drawn.take(n).collect() } else { vec![0; n] }
}

/// Steps a run whose encoding is timed.
const ENCODED_STEPS: usize = 4;

/// One run: the prompt in the largest steps, then greedy decoding, with steps submitted ahead as in a generation.
async fn measure(model: &mut Model, ids: &[u32], n_decode: usize, runs: &mut Runs) -> Result<()> {
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    model.begin_picks(&greedy, 0, ids)?;
    model.truncate(0);
    model.wait().await?;

    let begin = Instant::now();
    let max_batch = model.max_batch();
    let (rest, last) = ids.split_at((ids.len() - 1) / max_batch * max_batch);
    for batch in rest.chunks(max_batch) {
        model.step(batch, 0..0)?;
    }
    let first = model.step_and_pick(Some(last))?;
    model.picked(first).await?;
    let seconds = begin.elapsed().as_secs_f64();
    runs.prefill_tps.push(ids.len() as f64 / seconds);
    runs.ttft_ms.push(seconds * 1e3);

    let begin = Instant::now();
    let mut ahead = VecDeque::new();
    // None on software adapters, as in a generation.
    let most_ahead = if model.gpu().is_software() { 0 } else { MAX_AHEAD };
    for _ in 0..n_decode {
        ahead.push_back(model.step_and_pick(None)?);
        if ahead.len() > most_ahead
            && let Some(oldest) = ahead.pop_front()
        {
            model.picked(oldest).await?;
        }
    }
    for ticket in ahead {
        model.picked(ticket).await?;
    }
    runs.decode_tps.push(n_decode as f64 / begin.elapsed().as_secs_f64());
    runs.dispatches_per_token = model.n_dispatches();

    // Apart, since a driver may block who submits while it is busy; that is not the host's work.
    model.truncate(ids.len());
    for _ in 0..n_decode.min(ENCODED_STEPS) {
        model.wait().await?;
        let encode = Instant::now();
        let ticket = model.step_and_pick(None)?;
        runs.encode_us.push(encode.elapsed().as_secs_f64() * 1e6);
        model.picked(ticket).await?;
    }
    Ok(())
}

/// The kernels of a decode step after `ids`, and of the last batch of these.
async fn traces(model: &mut Model, ids: &[u32]) -> Result<(Vec<KernelTime>, Vec<KernelTime>)> {
    let max_batch = model.max_batch();
    let (rest, last) = ids.split_at((ids.len() - 1) / max_batch * max_batch);
    model.truncate(0);
    for batch in rest.chunks(max_batch) {
        model.step(batch, 0..0)?;
    }
    let prefill = model.trace(last).await?;
    let decode = model.trace(&last[..1]).await?;
    Ok((by_kernel(&decode), by_kernel(&prefill)))
}

/// The sums by kernel, the slowest first.
fn by_kernel(traced: &[Traced]) -> Vec<KernelTime> {
    let mut sums: BTreeMap<&str, (usize, f64, u64, u64)> = BTreeMap::new();
    for Traced { kernel, seconds, bytes, flops, .. } in traced {
        let sum = sums.entry(kernel).or_default();
        *sum = (sum.0 + 1, sum.1 + seconds, sum.2 + bytes, sum.3 + flops);
    }
    let rate = |amount: u64, seconds: f64| if seconds > 0.0 { amount as f64 / seconds / 1e9 } else { 0.0 };
    let mut times: Vec<_> = sums
        .into_iter()
        .map(|(kernel, (count, seconds, bytes, flops))| KernelTime {
            kernel: kernel.into(),
            count,
            ms: seconds * 1e3,
            gbps: rate(bytes, seconds),
            gflops: rate(flops, seconds),
        })
        .collect();
    times.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    times
}

/// Bytes that a decode step must read, on average over the run: weights, and the cache up to the token itself.
fn bytes_per_token(model: &Model, n_prompt: usize, n_decode: usize) -> f64 {
    let mean_len = n_prompt as f64 + 0.5 * (n_decode as f64 + 1.0);
    model.weight_bytes_per_token() as f64 + model.kv_bytes() as f64 / model.max_seq() as f64 * mean_len
}

/// The median (of an even number the mean of the middle two), the least and the most.
fn spread(values: &[f64]) -> Spread {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else { return Spread::default() };
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
    Spread { median, least: *least, most: *most }
}
