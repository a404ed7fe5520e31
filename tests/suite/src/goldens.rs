//! Whole models: logits against those of transformers in f32 (`tests/data/make_goldens.py`), from checkpoint
//! folders and GGUF files, whole and in small portions, with and without optional features.

use helium_webgpu::config::ModelConfig;
use helium_webgpu::format::{Dtype, Progress, parse_header};
use helium_webgpu::gpu::Gpu;
use helium_webgpu::gpu::kernel::{Core, Numbers};
use helium_webgpu::loader::{LoadOptions, Loader};
use helium_webgpu::model::{Kernels, Model};
use helium_webgpu::score::{activation, visit_logits};
use serde::Deserialize;
use std::ops::ControlFlow;
use std::rc::Rc;

use crate::reference::product::Matrix;
use crate::{Case, Outcome, open, text};

/// Largest difference of a logit. Keys and values rounded to f16 move some by up to 0.019 by themselves
/// (`kv_f16_diff` in each expected.json); products in f32 add less than 0.001.
const LOGIT_TOLERANCE: f32 = 0.02;

/// Largest Kullback-Leibler divergence at a position: what such differences of logits come to, squared.
const KL_TOLERANCE: f64 = 2e-4;

/// The same where kernels round activations to eight bits: every product errs by up to 1 in 254 of its largest inputs, and
/// these models, the smallest, have the shortest sums to even that out. Measured: up to 0.47, and 1.1e-2 (0.39 and 4.8e-3
/// where those are of sixteen).
pub(crate) const ROUNDED_LOGIT_TOLERANCE: f32 = 0.6;
const ROUNDED_KL_TOLERANCE: f64 = 1.5e-2;

struct Golden {
    name: &'static str,
    config: Option<&'static str>,
    files: &'static [(&'static str, &'static [u8])],
    expected: &'static str,
    logits: &'static [u8],
}

#[derive(Deserialize)]
struct Expected {
    ids: Vec<u32>,
    vocab_size: usize,
}

macro_rules! data {
    ($include:ident, $name:literal, $file:literal) => {
        $include!(concat!("../../data/goldens/", $name, "/", $file))
    };
}

macro_rules! folder {
    ($name:literal, $($file:literal),+) => {
        Golden {
            name: $name,
            config: Some(data!(include_str, $name, "config.json")),
            files: &[$(($file, data!(include_bytes, $name, $file))),+],
            expected: data!(include_str, $name, "expected.json"),
            logits: data!(include_bytes, $name, "logits.bin"),
        }
    };
}

macro_rules! gguf {
    ($name:literal) => {
        Golden {
            name: $name,
            config: None,
            files: &[("model.gguf", data!(include_bytes, $name, "model.gguf"))],
            expected: data!(include_str, $name, "expected.json"),
            logits: data!(include_bytes, $name, "logits.bin"),
        }
    };
}

static GOLDENS: [Golden; 12] = [
    folder!("llama_bf16", "model.safetensors"),
    folder!("llama_f16_gqa", "model.safetensors"),
    folder!("helium_bf16", "model.safetensors"),
    folder!(
        "helium_f32_gqa",
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors"
    ),
    folder!("heads5", "model.safetensors"),
    gguf!("gguf_F32"),
    gguf!("gguf_F16"),
    gguf!("gguf_BF16"),
    gguf!("gguf_Q8_0"),
    gguf!("gguf_Q4_0"),
    gguf!("gguf_Q4_1"),
    gguf!("gguf_K"),
];

pub(crate) fn cases() -> Vec<Case> {
    let case = |golden: &'static Golden, suffix, kernels| {
        Case::new(format!("golden_{}{suffix}", golden.name), move || check(golden, kernels))
    };
    let of = |names: &'static [&'static str]| GOLDENS.iter().filter(move |golden| names.contains(&golden.name));
    let plain = GOLDENS.iter().map(|golden| case(golden, "", Kernels::Baseline));
    // What an adapter offers changes the kernels, not the formats, and software adapters compile it slowly: few of each.
    let offered = of(&["llama_bf16", "gguf_Q4_0"]).map(|golden| case(golden, "_offered", Kernels::Exact));
    let rounded = of(&["gguf_Q4_0", "gguf_K"]).map(|golden| case(golden, "_rounded", Kernels::Rounded));
    let taps = Case::new("golden_taps", taps);
    plain.chain(offered).chain(rounded).chain([taps]).collect()
}

/// Activations obey the equations of `forward.rs`, computed from one another and the file's weights in f64: in a step of
/// several tokens, and in one of a single token, which has other kernels.
async fn taps() -> Outcome {
    let golden = GOLDENS.iter().find(|golden| golden.name == "gguf_F32").ok_or("the golden is gone")?;
    let (_, bytes) = golden.files[0];
    let Progress::Done(header) = parse_header("model.gguf", bytes, None).map_err(text)? else {
        return Err("the header is not all there".into());
    };
    let tensor = |name: &str| -> Result<(&[u8], usize, usize), String> {
        let tensor = header.tensor(name).ok_or_else(|| format!("there is no tensor {name}"))?;
        let (n_rows, cols) = (tensor.rows() as usize, tensor.cols() as usize);
        Ok((&bytes[tensor.offset as usize..tensor.end() as usize], n_rows, cols))
    };
    let floats = |name: &str| tensor(name).map(|(bytes, ..)| bytemuck::pod_collect_to_vec::<u8, f32>(bytes));
    let matrix =
        |name: &str| tensor(name).and_then(|(bytes, rows, cols)| Matrix::decode(Dtype::F32, bytes, rows, cols));

    let mut model = load(golden, open(true).await?, Kernels::Baseline, usize::MAX).await?;
    let expected: Expected = serde_json::from_str(golden.expected).map_err(|error| error.to_string())?;
    let eps = model.config().norm_eps;
    let (embedding, n_layers) = (floats("token_embd.weight")?, model.config().n_layers);
    for ids in [&expected.ids[..8], &expected.ids[..1]] {
        let mut before: Vec<f32> = Vec::new();
        for layer in 0..n_layers {
            let weight = |name: &str| format!("blk.{layer}.{name}.weight");
            let [mut h, mut queries, mut attention, mut middle, mut mlp, mut output] = [const { Vec::new() }; 6];
            let names =
                ["queries", "attention", "middle", "mlp", "output"].map(|name| format!("layers.{layer}.{name}"));
            let first = "embedding".to_owned();
            let places = [&mut h, &mut queries, &mut attention, &mut middle, &mut mlp, &mut output];
            for (name, place) in [&first].into_iter().chain(&names).zip(places) {
                *place = activation(&mut model, ids, name).await.map_err(text)?.0;
            }
            if layer == 0 {
                let width = h.len() / ids.len();
                let rows = ids.iter().flat_map(|id| &embedding[*id as usize * width..(*id as usize + 1) * width]);
                near("embedding", &h, &rows.map(|x| f64::from(*x)).collect::<Vec<_>>())?;
            } else {
                h = before;
            }
            let norms = [floats(&weight("attn_norm"))?, floats(&weight("ffn_norm"))?];
            let product = |name: &str, x: &[f32], norm: Option<&[f32]>| -> Result<Vec<f64>, String> {
                let (matrix, norm) = (matrix(&weight(name))?, norm.map(|norm| (norm, eps)));
                let rows = x.chunks_exact(x.len() / ids.len());
                Ok(rows.flat_map(|x| matrix.product(x, norm, Core::MatMul(Numbers::F32))).map(|y| y.value).collect())
            };
            // A rotation leaves the length of a pair.
            let length = |pair: &[f64]| pair[0].hypot(pair[1]);
            let rotated: Vec<f32> = queries.chunks_exact(2).map(|pair| pair[0].hypot(pair[1])).collect();
            let expected = product("attn_q", &h, Some(&norms[0]))?;
            near(&names[0], &rotated, &expected.chunks_exact(2).map(length).collect::<Vec<_>>())?;
            let sum = |x: &[f32], y: Vec<f64>| x.iter().zip(y).map(|(x, y)| f64::from(*x) + y).collect::<Vec<_>>();
            near(&names[2], &middle, &sum(&h, product("attn_output", &attention, None)?))?;
            let gate = product("ffn_gate", &middle, Some(&norms[1]))?;
            let up = product("ffn_up", &middle, Some(&norms[1]))?;
            let gated = gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up);
            near(&names[3], &mlp, &gated.collect::<Vec<_>>())?;
            near(&names[4], &output, &sum(&middle, product("ffn_down", &mlp, None)?))?;
            before = output;
        }
    }
    let unknown = activation(&mut model, &[1], "layers.99.mlp").await.err().ok_or("layers.99.mlp is there")?;
    if unknown.code() == "invalid-argument" { Ok(()) } else { Err(format!("layers.99.mlp: {unknown}")) }
}

/// f32 sums of some hundred products, each rounded by 6e-8 of the largest.
fn near(name: &str, found: &[f32], expected: &[f64]) -> Outcome {
    let largest = expected.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
    let is_near = |(found, expected): (&f32, &f64)| (f64::from(*found) - expected).abs() <= 1e-5 * largest;
    match found.iter().zip(expected).position(|pair| !is_near(pair)) {
        _ if found.len() != expected.len() => Err(format!("{name}: {} numbers, not {}", found.len(), expected.len())),
        Some(at) => Err(format!("{name}: number {at} is {}, expected {}", found[at], expected[at])),
        None => Ok(()),
    }
}

async fn check(golden: &'static Golden, kernels: Kernels) -> Outcome {
    let is_plain = kernels == Kernels::Baseline;
    // An odd portion, so that headers, rows and heads are cut anywhere; and whole files.
    let portion = if is_plain { 4099 } else { usize::MAX };
    let gpu = open(is_plain).await?;
    let is_rounded = kernels == Kernels::Rounded;
    if is_rounded && !gpu.offer().packed_dot {
        return crate::left_out("this adapter has no dot4I8Packed");
    }
    let mut model = load(golden, gpu, kernels, portion).await?;
    if is_rounded && !model.kernels().iter().any(|kernel| kernel.contains("_i8")) {
        return Err(format!("no kernel rounds: {:?}", model.kernels()));
    }
    // Its layers have queries and keys of other types than values.
    if is_rounded && golden.name == "gguf_K" && !model.kernels().iter().any(|kernel| kernel.contains("_and_")) {
        return Err(format!("no kernel takes two types: {:?}", model.kernels()));
    }
    let expected: Expected = serde_json::from_str(golden.expected).map_err(|error| error.to_string())?;
    let reference: Vec<f32> = bytemuck::pod_collect_to_vec(golden.logits);
    let ids = &expected.ids;
    let rows: Vec<&[f32]> = reference.chunks_exact(expected.vocab_size).collect();

    // All logits at once, by matrix products.
    let mut worst = Worst::default();
    visit_logits(&mut model, ids, |pos, logits| {
        worst.compare(pos, logits, rows[pos]);
        Ok(ControlFlow::Continue(()))
    })
    .await
    .map_err(text)?;
    worst.check("in steps of 32", ids.len(), is_rounded)?;

    // One token after another, by matrix-vector products.
    model.truncate(0);
    let mut worst = Worst::default();
    for (pos, id) in ids.iter().enumerate() {
        model.step(&[*id], 0..1).map_err(text)?;
        worst.compare(pos, &model.read_logits().await.map_err(text)?, rows[pos]);
    }
    worst.check("one by one", ids.len(), is_rounded)
}

async fn load(golden: &Golden, gpu: Rc<Gpu>, kernels: Kernels, portion: usize) -> Result<Model, String> {
    // An odd context, which no alignment divides.
    let options = LoadOptions { context_length: Some(95), kernels, ..LoadOptions::default() };
    let mut loader = Loader::new(gpu, options);
    if let Some(config) = golden.config {
        loader.set_config(ModelConfig::from_json("config.json", config).map_err(text)?);
    }
    for (name, bytes) in golden.files {
        loader.begin_file(name, Some(bytes.len() as u64)).map_err(text)?;
        for part in bytes.chunks(portion) {
            loader.push(part).map_err(text)?;
        }
        loader.end_file().map_err(text)?;
        loader.flush().await.map_err(text)?;
    }
    loader.finish().await.map_err(text)
}

/// The largest deviations so far.
#[derive(Default)]
struct Worst {
    n_compared: usize,
    logit: (f32, usize, usize),
    kl: (f64, usize),
    not_a_number: Option<(usize, usize)>,
}

impl Worst {
    fn compare(&mut self, pos: usize, found: &[f32], expected: &[f32]) {
        self.n_compared += 1;
        for (id, (found, expected)) in found.iter().zip(expected).enumerate() {
            let difference = (found - expected).abs();
            if difference.is_nan() {
                self.not_a_number.get_or_insert((pos, id));
            } else if difference > self.logit.0 {
                self.logit = (difference, pos, id);
            }
        }
        let kl = divergence(expected, found);
        if kl > self.kl.0 {
            self.kl = (kl, pos);
        }
    }

    fn check(&self, how: &str, n_expected: usize, is_rounded: bool) -> Outcome {
        if self.n_compared != n_expected {
            return Err(format!("{how}: {} of {n_expected} positions were computed", self.n_compared));
        }
        if let Some((pos, id)) = self.not_a_number {
            return Err(format!("{how}: the logit of token {id} at position {pos} is not a number"));
        }
        let ((logit, pos, id), (kl, kl_pos)) = (self.logit, self.kl);
        let (most, most_kl) =
            if is_rounded { (ROUNDED_LOGIT_TOLERANCE, ROUNDED_KL_TOLERANCE) } else { (LOGIT_TOLERANCE, KL_TOLERANCE) };
        if logit > most || kl > most_kl {
            return Err(format!(
                "{how}: the logit of token {id} at position {pos} is off by {logit} (allowed {most}), the divergence at \
                 position {kl_pos} is {kl:.2e} (allowed {most_kl:.1e})"
            ));
        }
        Ok(())
    }
}

/// Σ p·(ln p − ln q) with p and q the softmax of either.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let log_softmax = |logits: &[f32]| {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
        logits.iter().map(|logit| f64::from(logit - largest) - sum.ln()).collect::<Vec<_>>()
    };
    log_softmax(p).iter().zip(log_softmax(q)).map(|(p, q)| p.exp() * (p - q)).sum()
}
