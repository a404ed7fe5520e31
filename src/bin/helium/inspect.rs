//! `helium inspect`: a model's files enter, what their headers say leaves, for which no GPU is needed; or part of an
//! adapter's name, and what the adapters offer.

use std::collections::BTreeMap;
use std::path::PathBuf;

use helium_webgpu::config::ModelConfig;
use helium_webgpu::files::Inspection;
use helium_webgpu::format::TensorInfo;
use helium_webgpu::gpu::{AdapterAbout, Gpu};
use helium_webgpu::tokenizer::Tokenizer;
use serde::Serialize;

use crate::args::ModelArgs;
use crate::output::{Failure, Result, note, print_json, print_lines};
use crate::tuning;

/// Print a model's configuration and tensors; or, with --adapter, what this machine's adapters offer.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A GGUF file, or a folder with config.json, *.safetensors and tokenizer.json
    #[arg(required_unless_present = "adapter")]
    model: Option<PathBuf>,
    /// A tokenizer.json to use instead of the model's own
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// List the adapters whose name, driver or backend contains this: all without a value
    #[arg(long, value_name = "SUBSTRING", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["model", "tokenizer"])]
    adapter: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    format: &'static str,
    file_bytes: u64,
    architecture: &'a str,
    parameters: u64,
    config: &'a ModelConfig,
    tokenizer: Option<Vocabulary>,
    tensors: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Vocabulary {
    kind: &'static str,
    vocab: usize,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    dtype: &'static str,
    shape: &'a [u64],
    bytes: u64,
}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let Some(path) = self.model else {
            return adapters(self.adapter.as_deref().unwrap_or_default(), self.json);
        };
        let model = ModelArgs::new(path, self.tokenizer);
        let files = model.find()?;
        let inspection = files.inspect()?;
        let tokenizer = match model.tokenizer(&files) {
            // What else there is can be told all the same.
            Err(Failure::Error(error)) if !model.has_tokenizer() => {
                note(&format!("note: the tokenizer cannot be used: {error}"));
                None
            }
            tokenizer => tokenizer?,
        };
        let vocabulary = |tokenizer: Tokenizer| Vocabulary { kind: tokenizer.kind(), vocab: tokenizer.vocab_size() };
        let report = report(&inspection, tokenizer.map(vocabulary));
        if self.json { print_json(&report) } else { print_lines(&table(&report)) }
    }
}

#[derive(Serialize)]
struct AdapterReport {
    #[serde(flatten)]
    about: AdapterAbout,
    /// The kernels that were found fastest, by what for and the shape of the weights.
    kernels: BTreeMap<String, String>,
}

/// Lists adapters.
fn adapters(substring: &str, json: bool) -> Result<()> {
    let tuning = tuning::read();
    let reports: Vec<_> = pollster::block_on(Gpu::list(substring))?
        .into_iter()
        .map(|about| {
            let kernels = tuning.of(&about.backend, &about.name, &about.driver, about.offer);
            AdapterReport { about, kernels }
        })
        .collect();
    if json {
        return print_json(&reports);
    }
    let mut lines = Vec::new();
    for AdapterReport { about, kernels } in &reports {
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        let offer = &about.offer;
        let offered = [
            (offer.subgroup > 1, format!("subgroups of at least {}", offer.subgroup)),
            (offer.f16, "f16".into()),
            (offer.packed_dot, "dot4I8Packed".into()),
            (offer.cooperative, "cooperative matrices".into()),
            (offer.timestamps, "timestamps".into()),
        ];
        let offered: Vec<_> = offered.into_iter().filter_map(|(is_there, name)| is_there.then_some(name)).collect();
        let rows = [
            ("adapter", about.name.clone()),
            ("backend, driver", format!("{}, {}", about.backend, about.driver)),
            ("computes on", if about.is_software { "the CPU" } else { "a GPU" }.into()),
            ("offers", if offered.is_empty() { "nothing optional".into() } else { offered.join(", ") }),
            ("largest binding", mib(about.max_binding_bytes)),
            ("largest buffer", mib(about.max_buffer_bytes)),
        ];
        lines.extend(rows.iter().map(|(name, value)| format!("{name:<17} {value}")));
        lines.extend(kernels.iter().map(|(what, kernel)| format!("{:<17} {what}: {kernel}", "fastest")));
        lines.push(String::new());
    }
    lines.pop();
    print_lines(&lines)
}

fn report(inspection: &Inspection, tokenizer: Option<Vocabulary>) -> Report<'_> {
    let Inspection { format, config, tensors, file_bytes } = inspection;
    Report {
        format,
        file_bytes: *file_bytes,
        architecture: &config.architecture,
        parameters: config.parameters(),
        config,
        tokenizer,
        tensors: tensors.iter().map(entry).collect(),
    }
}

fn entry(tensor: &TensorInfo) -> Entry<'_> {
    Entry { name: &tensor.name, dtype: tensor.dtype.name(), shape: &tensor.shape, bytes: tensor.bytes }
}

fn table(report: &Report) -> Vec<String> {
    let config = report.config;
    let tokenizer = match &report.tokenizer {
        Some(Vocabulary { kind, vocab }) => format!("{kind}, {vocab} tokens"),
        None => "none".into(),
    };
    let list = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let or_none = |text: String| if text.is_empty() { "none".into() } else { text };
    let rows = [
        ("format", format!("{}, {} bytes", report.format, report.file_bytes)),
        ("architecture", report.architecture.into()),
        ("parameters", report.parameters.to_string()),
        ("layers", config.n_layers.to_string()),
        ("hidden, feed-forward", format!("{}, {}", config.hidden_size, config.intermediate_size)),
        ("heads", format!("{}, {} of keys and values, {} wide", config.n_heads, config.n_kv_heads, config.head_dim)),
        ("vocabulary", config.vocab_size.to_string()),
        ("embeddings", if config.tie_word_embeddings { "tied" } else { "untied" }.into()),
        ("context", config.context_length.to_string()),
        ("RoPE", format!("theta {}, {:?} pairs", config.rope_theta, config.rope_pairs).to_lowercase()),
        ("norm epsilon", format!("{:e}", config.norm_eps)),
        ("first token (BOS)", or_none(list(config.bos_token_id.as_slice()))),
        ("last tokens (EOS)", or_none(list(&config.eos_token_ids))),
        ("tokenizer", tokenizer),
    ];
    let mut lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:<21} {value}")).collect();
    let widest = report.tensors.iter().map(|tensor| tensor.name.chars().count()).max().unwrap_or(0);
    lines.push(format!("\n{:widest$}  {:5}  {:>12}  shape", "tensor", "dtype", "bytes"));
    for Entry { name, dtype, shape, bytes } in &report.tensors {
        lines.push(format!("{name:widest$}  {dtype:5}  {bytes:>12}  {shape:?}"));
    }
    lines
}
