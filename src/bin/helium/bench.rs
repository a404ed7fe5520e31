//! `helium bench`: a model enters, how fast it runs here leaves, and how near that is to what the device allows.

use helium_webgpu::bench::{BenchOptions, KernelTime, Report, bench};
use helium_webgpu::files::ModelFiles;

use crate::args::{GpuArgs, ModelArgs, positive};
use crate::output::{self, print_json, print_lines};

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
    /// Time every dispatch of a prompt and of a decode step by itself, too, and list the kernels
    #[arg(long)]
    trace: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gpu: GpuArgs,
}

impl Args {
    pub(crate) fn run(self) -> output::Result<()> {
        let files: ModelFiles = self.model.find()?;
        let options = BenchOptions {
            prompt_tokens: self.prompt_tokens,
            decode_tokens: self.decode_tokens,
            runs: self.runs,
            trace: self.trace,
        };
        let (report, has_timestamps) = pollster::block_on(async {
            let mut model = self.gpu.load(&files).await?;
            let has_timestamps = model.gpu().offer().timestamps;
            output::Result::Ok((bench(&mut model, &options).await?, has_timestamps))
        })?;
        if self.trace && !has_timestamps {
            output::note("this device has no timestamps: the trace has no times");
        }
        if self.json { print_json(&report) } else { print_lines(&table(&report, &options)) }
    }
}

fn table(report: &Report, options: &BenchOptions) -> Vec<String> {
    let spread = |name: &str| {
        let spread = report.spread.get(name).copied().unwrap_or_default();
        format!("{:.2} ({:.2}–{:.2})", spread.median, spread.least, spread.most)
    };
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let BenchOptions { prompt_tokens, decode_tokens, runs, .. } = options;
    let rows = [
        ("adapter", report.adapter.clone()),
        ("runs", format!("{runs} of {prompt_tokens} + {decode_tokens} tokens; medians (least–most)")),
        ("prefill", format!("{} tok/s", spread("prefill_tps"))),
        ("decode", format!("{} tok/s", spread("decode_tps"))),
        ("first token after", format!("{} ms", spread("ttft_ms"))),
        ("dispatches a token", report.dispatches_per_token.to_string()),
        ("encoding a token", format!("{} µs", spread("encode_us_per_token"))),
        ("weights", mib(report.weight_bytes)),
        ("KV cache", mib(report.kv_bytes)),
        ("all buffers", mib(report.gpu_bytes)),
        ("memory ceiling", format!("{:.2} GB/s read by a copy, which writes as much", report.read_gbps)),
        ("compute ceiling", format!("{:.2} GFLOP/s in f32", report.peak_gflops)),
        ("decoding reads", format!("{:.2} GB/s, {:.1}% of the ceiling", report.decode_gbps, report.roofline * 100.0)),
    ];
    let mut lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:<19} {value}")).collect();
    for (what, times) in [("a decode step", &report.decode_trace), ("a prompt", &report.prefill_trace)] {
        if !times.is_empty() {
            lines.extend(trace(what, times, report));
        }
    }
    lines
}

/// The kernels of a step.
fn trace(what: &str, times: &[KernelTime], report: &Report) -> Vec<String> {
    let widest = times.iter().map(|time| time.kernel.len()).max().unwrap_or(0).max(what.len());
    let total: f64 = times.iter().map(|time| time.ms).sum();
    let mut lines = vec![format!("\n{what:widest$}  count        ms  share    GB/s  of max  GFLOP/s  of max")];
    for KernelTime { kernel, count, ms, gbps, gflops } in times {
        let percent = |part: f64, whole: f64| if whole > 0.0 { 100.0 * part / whole } else { 0.0 };
        lines.push(format!(
            "{kernel:widest$}  {count:>5}  {ms:>8.3}  {:>4.1}%  {gbps:>6.2}  {:>5.1}%  {gflops:>7.2}  {:>5.1}%",
            percent(*ms, total),
            percent(*gbps, report.read_gbps),
            percent(*gflops, report.peak_gflops)
        ));
    }
    lines
}
