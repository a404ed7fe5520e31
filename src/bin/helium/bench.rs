//! `helium bench`: a model enters, how fast it runs here leaves, and how near that is to what memory allows.

use std::collections::VecDeque;
use std::time::Instant;

use helium_webgpu::config::{ModelConfig, WeightId};
use helium_webgpu::files::{Inspection, ModelFiles};
use helium_webgpu::format::repack::Layout;
use helium_webgpu::gpu::Gpu;
use helium_webgpu::model::{MAX_BATCH, Model};
use helium_webgpu::sampler::{Sampling, uniform};
use helium_webgpu::{Error, Result};
use serde::Serialize;

use crate::args::{GpuArgs, ModelArgs, positive};
use crate::output::{self, print_json, print_lines};

/// Bytes of a copy that measures the memory: more than caches hold, and within any buffer limit.
const COPY_BYTES: u64 = 128 << 20;

/// Seconds of copies between two waits, at least: what submitting and waiting take is little of it.
const COPY_SECONDS: f64 = 0.02;

/// The ceiling is the best of so many.
const COPY_RUNS: usize = 5;

/// Measure speed on random tokens: prompt, decoding, and the share of the memory's speed it reaches.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value = "128", value_parser = positive, allow_negative_numbers = true)]
    prompt_tokens: usize,
    /// Tokens to decode after it
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive, allow_negative_numbers = true)]
    decode_tokens: usize,
    /// Runs, after one that is not counted; medians are reported
    #[arg(long, value_name = "N", default_value = "3", value_parser = positive, allow_negative_numbers = true)]
    runs: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gpu: GpuArgs,
}

#[derive(Serialize)]
struct Report {
    adapter: String,
    prefill_tps: f64,
    decode_tps: f64,
    ttft_ms: f64,
    dispatches_per_token: usize,
    /// Host time to encode and submit a decode step, without waiting.
    encode_us_per_token: f64,
    weight_bytes: u64,
    kv_bytes: u64,
    gpu_bytes: u64,
    /// Bytes read by a copy from buffer to buffer, which writes as many, by its time.
    read_gbps: f64,
    /// Bytes of weights and cache that a decode step must read, by its time.
    decode_gbps: f64,
    roofline: f64,
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

impl Args {
    pub(crate) fn run(self) -> output::Result<()> {
        pollster::block_on(self.bench())
    }

    async fn bench(&self) -> output::Result<()> {
        let files: ModelFiles = self.model.find()?;
        let inspection = files.inspect()?;
        let mut model = self.gpu.load(&files).await?;
        let (n_prompt, n_decode) = (self.prompt_tokens, self.decode_tokens);
        if n_prompt.saturating_add(n_decode) > model.max_seq() {
            return Err(Error::ContextFull(format!(
                "{n_prompt} tokens of prompt and {n_decode} to decode do not fit the context of {}; give fewer, or a \
                 longer --context, up to {}",
                model.max_seq(),
                model.config().context_length
            ))
            .into());
        }
        let ids = random_ids(model.config(), n_prompt);
        // The first run makes the driver compile and allocate what it left for later.
        measure(&mut model, &ids, n_decode, &mut Runs::default()).await?;
        let mut runs = Runs::default();
        for _ in 0..self.runs {
            measure(&mut model, &ids, n_decode, &mut runs).await?;
        }

        let decode_tps = median(&runs.decode_tps);
        let decode_gbps = bytes_per_token(&model, &inspection, n_prompt, n_decode) * decode_tps / 1e9;
        let gpu_bytes = model.gpu().allocated_bytes();
        let read_gbps = copy_gbps(model.gpu()).await?;
        let report = Report {
            adapter: model.gpu().adapter_name(),
            prefill_tps: median(&runs.prefill_tps),
            decode_tps,
            ttft_ms: median(&runs.ttft_ms),
            dispatches_per_token: runs.dispatches_per_token,
            encode_us_per_token: median(&runs.encode_us),
            weight_bytes: model.weight_bytes(),
            kv_bytes: model.kv_bytes(),
            gpu_bytes,
            read_gbps,
            decode_gbps,
            roofline: decode_gbps / read_gbps,
        };
        if self.json { print_json(&report) } else { print_lines(&self.table(&report, &runs)) }
    }

    fn table(&self, report: &Report, runs: &Runs) -> Vec<String> {
        let spread = |values: &[f64]| {
            let (least, most) = values.iter().fold((f64::INFINITY, 0.0_f64), |(a, b), v| (a.min(*v), b.max(*v)));
            format!("{:.2} ({least:.2}–{most:.2})", median(values))
        };
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        let Self { prompt_tokens, decode_tokens, runs: n_runs, .. } = self;
        let rows = [
            ("adapter", report.adapter.clone()),
            ("runs", format!("{n_runs} of {prompt_tokens} + {decode_tokens} tokens; medians (least–most)")),
            ("prefill", format!("{} tok/s", spread(&runs.prefill_tps))),
            ("decode", format!("{} tok/s", spread(&runs.decode_tps))),
            ("first token after", format!("{} ms", spread(&runs.ttft_ms))),
            ("dispatches a token", report.dispatches_per_token.to_string()),
            ("encoding a token", format!("{} µs", spread(&runs.encode_us))),
            ("weights", mib(report.weight_bytes)),
            ("KV cache", mib(report.kv_bytes)),
            ("all buffers", mib(report.gpu_bytes)),
            ("memory ceiling", format!("{:.2} GB/s read by a copy, which writes as much", report.read_gbps)),
            ("decoding reads", format!("{:.2} GB/s, {:.1}% of it", report.decode_gbps, report.roofline * 100.0)),
        ];
        rows.iter().map(|(name, value)| format!("{name:<19} {value}")).collect()
    }
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

/// Steps under way besides the one that is waited for; none on software adapters, as in a generation.
const STEPS_AHEAD: usize = 8;

/// One run: the prompt in the largest steps, then greedy decoding, with steps submitted ahead as in a generation.
async fn measure(model: &mut Model, ids: &[u32], n_decode: usize, runs: &mut Runs) -> Result<()> {
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    model.begin_picks(&greedy, 0, ids)?;
    model.truncate(0);
    model.wait().await?;

    let begin = Instant::now();
    let (rest, last) = ids.split_at((ids.len() - 1) / MAX_BATCH * MAX_BATCH);
    for batch in rest.chunks(MAX_BATCH) {
        model.step(batch, 0..0)?;
    }
    let first = model.step_and_pick(Some(last))?;
    model.picked(first).await?;
    let seconds = begin.elapsed().as_secs_f64();
    runs.prefill_tps.push(ids.len() as f64 / seconds);
    runs.ttft_ms.push(seconds * 1e3);

    let begin = Instant::now();
    let mut ahead = VecDeque::new();
    let most_ahead = if model.gpu().is_software() { 0 } else { STEPS_AHEAD };
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

/// Bytes that a decode step must read, on average over the run: all weights, but of an embedding that is not the
/// output projection too only a row; and the cache up to the token itself.
fn bytes_per_token(model: &Model, inspection: &Inspection, n_prompt: usize, n_decode: usize) -> f64 {
    let config = model.config();
    let is_looked_up = |name: &str| config.weight_id(name) == Some(WeightId::TokenEmbedding);
    let unread: u64 = if config.tie_word_embeddings {
        0
    } else {
        let embedding = inspection.tensors.iter().filter(|tensor| is_looked_up(&tensor.name));
        embedding
            .map(|tensor| {
                let layout = Layout::new(tensor.dtype, tensor.cols() as usize);
                (tensor.rows() - 1) * 4 * (layout.quants_row_words() + layout.aux_row_words()) as u64
            })
            .sum()
    };
    let weights = model.weight_bytes().saturating_sub(unread);
    let mean_len = n_prompt as f64 + 0.5 * (n_decode as f64 + 1.0);
    weights as f64 + model.kv_bytes() as f64 / model.max_seq() as f64 * mean_len
}

/// The best rate of a copy from buffer to buffer, in GB/s of bytes read (it writes as many).
async fn copy_gbps(gpu: &Gpu) -> Result<f64> {
    let buffer = |usage| {
        let label = Some("copy");
        // Not through `gpu`, which would count them as the engine's.
        gpu.device.create_buffer(&wgpu::BufferDescriptor { label, size: COPY_BYTES, usage, mapped_at_creation: false })
    };
    let guard = gpu.guard();
    let (from, to) = (buffer(wgpu::BufferUsages::COPY_SRC), buffer(wgpu::BufferUsages::COPY_DST));
    let copy = async |n_copies: u32| -> Result<f64> {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("copies") });
        for _ in 0..n_copies {
            encoder.copy_buffer_to_buffer(&from, 0, &to, 0, COPY_BYTES);
        }
        let begin = Instant::now();
        gpu.queue.submit([encoder.finish()]);
        gpu.wait().await?;
        Ok(begin.elapsed().as_secs_f64())
    };
    // The first clears both buffers, too.
    copy(1).await?;
    let mut n_copies = 1;
    while copy(n_copies).await? < COPY_SECONDS && n_copies < 1 << 12 {
        n_copies *= 2;
    }
    let mut fastest = f64::INFINITY;
    for _ in 0..COPY_RUNS {
        fastest = fastest.min(copy(n_copies).await?);
    }
    guard.finish().await?;
    Ok(COPY_BYTES as f64 * f64::from(n_copies) / fastest / 1e9)
}

/// The middle value, or the mean of the middle two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}
