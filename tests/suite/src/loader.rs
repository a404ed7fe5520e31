//! The loader: portions of any size, files that are cut short, damaged, incomplete or too many, and calls out of
//! order.

use std::rc::Rc;
use std::time::Duration;

use helium_webgpu::Error;
use helium_webgpu::config::ModelConfig;
use helium_webgpu::format::{Header, Progress, parse_header};
use helium_webgpu::gpu::{FeatureChoice, Gpu, GpuOptions, LimitChoice};
use helium_webgpu::loader::Loader;
use helium_webgpu::model::blueprint::{Blueprint, LoadOptions};
use helium_webgpu::model::{Kernels, Model};
use helium_webgpu::recipe::Recipe;
use web_time::Instant;

use crate::goldens::ROUNDED_LOGIT_TOLERANCE;
use crate::{Case, Outcome, WEB, left_out, open, refused, text};

macro_rules! golden {
    ($include:ident, $file:literal) => {
        $include!(concat!("../../data/goldens/", $file))
    };
}

/// A GGUF file with a byte-level vocabulary, F16, and a context of 256.
pub(crate) static F16: &[u8] = golden!(include_bytes, "gguf_F16/model.gguf");
/// The smallest file, of `Q4_1`.
static Q4_1: &[u8] = golden!(include_bytes, "gguf_Q4_1/model.gguf");
/// Every K type, and matrices in pieces of several types.
static K: &[u8] = golden!(include_bytes, "gguf_K/model.gguf");
/// A checkpoint whose heads' halves are interleaved.
static HALVES: &[u8] = golden!(include_bytes, "llama_bf16/model.safetensors");
static HALVES_CONFIG: &str = golden!(include_str, "llama_bf16/config.json");
/// Tied: one matrix for the embeddings and the output.
static TIED: &[u8] = golden!(include_bytes, "gguf_Q8_0/model.gguf");
/// A checkpoint in three files.
static SHARDS: [(&str, &[u8]); 3] = [
    ("model-00001-of-00003.safetensors", golden!(include_bytes, "helium_f32_gqa/model-00001-of-00003.safetensors")),
    ("model-00002-of-00003.safetensors", golden!(include_bytes, "helium_f32_gqa/model-00002-of-00003.safetensors")),
    ("model-00003-of-00003.safetensors", golden!(include_bytes, "helium_f32_gqa/model-00003-of-00003.safetensors")),
];
static SHARDS_CONFIG: &str = golden!(include_str, "helium_f32_gqa/config.json");

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("loader_bytes", bytes),
        Case::new("loader_tensor_borders_gguf", || tensor_borders(None, K)),
        Case::new("loader_tensor_borders_safetensors", || tensor_borders(Some(HALVES_CONFIG), HALVES)),
        Case::new("loader_truncated_gguf", || truncated(None, Q4_1)),
        Case::new("loader_truncated_safetensors", || truncated(Some(SHARDS_CONFIG), SHARDS[0].1)),
        Case::new("loader_shards_in_any_order", shards_in_any_order),
        Case::new("loader_missing_weights", missing_weights),
        Case::new("loader_weights_twice", weights_twice),
        Case::new("loader_without_configuration", without_configuration),
        Case::new("loader_calls_out_of_order", calls_out_of_order),
        Case::new("loader_context_length", context_length),
        Case::new("loader_damaged", damaged),
        Case::new("loader_pieces_of_f16", || pieces(None, F16, [8 << 10, 5000])),
        Case::new("loader_pieces_of_k", || pieces(None, K, [40 << 10, 17 << 10])),
        Case::new("loader_pieces_of_tied_q8_0", || pieces(None, TIED, [16 << 10, 9000])),
        Case::new("loader_pieces_of_heads", || pieces(Some(HALVES_CONFIG), HALVES, [8 << 10, 5000])),
        Case::new("loader_pieces_too_small", pieces_too_small),
        Case::new("loader_quantizes", quantizes),
        Case::new("loader_memory_is_foreseen", memory_is_foreseen),
        Case::new("loader_measures_by_timestamps", || measures(wgpu::Features::empty())),
        Case::new("loader_measures_by_the_clock", || measures(wgpu::Features::TIMESTAMP_QUERY)),
    ]
}

/// A loader that has its configuration, if it needs one.
fn loader(gpu: &Rc<Gpu>, config: Option<&str>) -> Result<Loader, Error> {
    loader_with(gpu, config, LoadOptions::default())
}

fn loader_with(gpu: &Rc<Gpu>, config: Option<&str>, options: LoadOptions) -> Result<Loader, Error> {
    let mut loader = Loader::new(Rc::clone(gpu), options);
    if let Some(config) = config {
        loader.set_config(ModelConfig::from_json("config.json", config)?);
    }
    Ok(loader)
}

/// Pushes a whole file in `portions`.
fn push<'a>(
    loader: &mut Loader,
    name: &str,
    size: Option<u64>,
    portions: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), Error> {
    loader.begin_file(name, size)?;
    for portion in portions {
        loader.push(portion)?;
    }
    loader.end_file()
}

/// Loads a model of one GGUF file.
pub(crate) async fn load_gguf(bytes: &[u8], context_length: usize) -> Result<Model, String> {
    let mut loader = loader_with(&open(false).await?, None, context_of(context_length)).map_err(text)?;
    push(&mut loader, "model.gguf", Some(bytes.len() as u64), [bytes]).map_err(text)?;
    loader.finish().await.map_err(text)
}

fn context_of(n_tokens: usize) -> LoadOptions {
    LoadOptions { context_length: Some(n_tokens), ..LoadOptions::default() }
}

/// The bits of the logits of some tokens: equal models give equal ones on one device.
async fn fingerprint(loader: Loader) -> Result<Vec<u32>, String> {
    let mut model = loader.finish().await.map_err(text)?;
    model.step(&[1, 200, 0, 77, 77, 12, 258, 3], 0..8).map_err(text)?;
    let logits = model.read_logits().await.map_err(text)?;
    match logits.iter().position(|logit| !logit.is_finite()) {
        None => Ok(logits.into_iter().map(f32::to_bits).collect()),
        Some(at) => Err(format!("logit {at} is {}", logits[at])),
    }
}

fn same(what: &str, found: &[u32], expected: &[u32]) -> Outcome {
    if found.len() != expected.len() {
        return Err(format!("{what}: {} logits, expected {}", found.len(), expected.len()));
    }
    match found.iter().zip(expected).position(|(found, expected)| found != expected) {
        None => Ok(()),
        Some(at) => {
            let [found, expected] = [found[at], expected[at]].map(f32::from_bits);
            Err(format!("{what}: logit {at} is {found}, expected {expected} as from the whole file at once"))
        }
    }
}

fn header(name: &str, bytes: &[u8]) -> Result<Header, String> {
    match parse_header(name, bytes, Some(bytes.len() as u64)).map_err(text)? {
        Progress::Done(header) => Ok(header),
        Progress::NeedMore(n) => Err(format!("{name}: the header needs {n} bytes of {}", bytes.len())),
    }
}

/// Byte by byte, with and without the file's size.
async fn bytes() -> Outcome {
    let gpu = open(true).await?;
    let mut whole = loader(&gpu, None).map_err(text)?;
    push(&mut whole, "model.gguf", None, [Q4_1]).map_err(text)?;
    let whole = fingerprint(whole).await?;
    for size in [Some(Q4_1.len() as u64), None] {
        let mut loader = loader(&gpu, None).map_err(text)?;
        push(&mut loader, "model.gguf", size, Q4_1.chunks(1)).map_err(text)?;
        same(&format!("byte by byte, size {size:?}"), &fingerprint(loader).await?, &whole)?;
    }
    Ok(())
}

/// Portions that end where a tensor or the header begins or ends, a byte before and after, and in the middle.
async fn tensor_borders(config: Option<&'static str>, bytes: &'static [u8]) -> Outcome {
    let gpu = open(true).await?;
    let mut whole = loader(&gpu, config).map_err(text)?;
    push(&mut whole, "model", Some(bytes.len() as u64), [bytes]).map_err(text)?;
    let whole = fingerprint(whole).await?;
    let header = header("model", bytes)?;
    let middle = |from: u64, to: u64| from + (to - from) / 2;
    let exact = header.tensors.iter().flat_map(|tensor| [tensor.offset, tensor.end()]);
    let exact: Vec<u64> = exact.chain([header.header_bytes]).collect();
    let middles = header.tensors.iter().map(|tensor| middle(tensor.offset, tensor.end()));
    let around = exact.iter().flat_map(|at| [at - 1, *at, at + 1]).chain(middles).collect();
    for mut borders in [exact, around] {
        borders.sort_unstable();
        borders.dedup();
        borders.retain(|border| *border < bytes.len() as u64);
        let mut portions = Vec::new();
        let mut rest = bytes;
        for border in borders {
            let (portion, after) = rest.split_at(border as usize - (bytes.len() - rest.len()));
            portions.push(portion);
            rest = after;
        }
        portions.push(rest);
        let n_portions = portions.len();
        let mut loader = loader(&gpu, config).map_err(text)?;
        push(&mut loader, "model", Some(bytes.len() as u64), portions).map_err(text)?;
        same(&format!("in {n_portions} portions"), &fingerprint(loader).await?, &whole)?;
    }
    Ok(())
}

/// Files that end within the header, before, in and after every tensor but the last.
async fn truncated(config: Option<&'static str>, bytes: &'static [u8]) -> Outcome {
    let gpu = open(true).await?;
    let header = header("model", bytes)?;
    let mut cuts = vec![0, 1, 3, 4, 7, 8, 9, 20, 24, header.header_bytes / 2, header.header_bytes - 1];
    cuts.push(header.header_bytes);
    for tensor in &header.tensors {
        cuts.extend([tensor.offset, tensor.offset + 1, tensor.offset + tensor.bytes / 2, tensor.end() - 1]);
    }
    let whole = bytes.len() as u64;
    for cut in cuts {
        let start = &bytes[..cut as usize];
        // The size is not known; it is that of the truncated file; or that of the whole one.
        for size in [None, Some(cut), Some(whole)] {
            let mut loader = loader(&gpu, config).map_err(text)?;
            let result = push(&mut loader, "short.model", size, start.chunks(1000));
            refused(&format!("cut at byte {cut} of {whole}, size {size:?}"), result, "corrupt", "short.model")?;
        }
    }
    Ok(())
}

async fn shards_in_any_order() -> Outcome {
    let gpu = open(true).await?;
    let mut expected = Vec::new();
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let mut loader = loader(&gpu, Some(SHARDS_CONFIG)).map_err(text)?;
        for (name, bytes) in order.map(|i| SHARDS[i]) {
            push(&mut loader, name, Some(bytes.len() as u64), bytes.chunks(30_000)).map_err(text)?;
        }
        let found = fingerprint(loader).await?;
        if expected.is_empty() {
            expected = found;
        } else {
            same(&format!("the files in the order {order:?}"), &found, &expected)?;
        }
    }
    Ok(())
}

/// One of three files is not given; or a tensor has another name.
async fn missing_weights() -> Outcome {
    let gpu = open(true).await?;
    for (missing, _) in SHARDS {
        let mut loader = loader(&gpu, Some(SHARDS_CONFIG)).map_err(text)?;
        for (name, bytes) in SHARDS.iter().filter(|(name, _)| *name != missing) {
            push(&mut loader, name, None, [*bytes]).map_err(text)?;
        }
        let result = loader.finish().await;
        refused(&format!("without {missing}"), result, "corrupt", "weights are missing")?;
    }
    // A name that may be skipped.
    let renamed = replaced(F16, b"blk.1.ffn_down.weight", b".attn_rot_embd.weight")?;
    let mut loader = loader(&gpu, None).map_err(text)?;
    // With the header alone: nobody should wait for the rest.
    let result = push(&mut loader, "model.gguf", None, [&renamed[..renamed.len() / 2]]);
    refused("without blk.1.ffn_down.weight", result, "corrupt", "1 of ")
}

async fn weights_twice() -> Outcome {
    let gpu = open(true).await?;
    let mut shards = loader(&gpu, Some(SHARDS_CONFIG)).map_err(text)?;
    push(&mut shards, SHARDS[0].0, None, [SHARDS[0].1]).map_err(text)?;
    let result = push(&mut shards, "again.safetensors", None, [SHARDS[0].1]);
    refused("a shard twice", result, "corrupt", "again.safetensors")?;

    let mut gguf = loader(&gpu, None).map_err(text)?;
    push(&mut gguf, "model.gguf", None, [Q4_1]).map_err(text)?;
    let result = push(&mut gguf, "again.gguf", None, [Q4_1]);
    refused("a GGUF file twice", result, "corrupt", "again.gguf")?;

    let renamed = replaced(F16, b"blk.1.ffn_down.weight", b"blk.0.ffn_down.weight")?;
    let result = push(&mut loader(&gpu, None).map_err(text)?, "model.gguf", None, [&renamed[..]]);
    refused("blk.0.ffn_down.weight twice in a file", result, "corrupt", "blk.0.ffn_down.weight")
}

async fn without_configuration() -> Outcome {
    let gpu = open(true).await?;
    let result = push(&mut loader(&gpu, None).map_err(text)?, "model.safetensors", None, [HALVES]);
    refused("safetensors alone", result, "invalid-argument", "config.json")?;
    // Another model's.
    let result = push(&mut loader(&gpu, Some(SHARDS_CONFIG)).map_err(text)?, "model.safetensors", None, [HALVES]);
    refused("safetensors with another model's configuration", result, "corrupt", "model.safetensors")
}

async fn calls_out_of_order() -> Outcome {
    let gpu = open(true).await?;
    let new = || loader(&gpu, None).map_err(text);
    refused("bytes before a file", new()?.push(Q4_1), "internal", "")?;
    refused("an end before a file", new()?.end_file(), "internal", "")?;
    refused("finish before a file", new()?.finish().await, "corrupt", "configuration")?;
    let mut twice = new()?;
    twice.begin_file("first.gguf", None).map_err(text)?;
    refused("two files at once", twice.begin_file("second.gguf", None), "internal", "first.gguf")?;
    // All names of weights are known by then, but not all weights.
    let mut open_file = new()?;
    open_file.begin_file("model.gguf", None).map_err(text)?;
    open_file.push(&Q4_1[..Q4_1.len() / 2]).map_err(text)?;
    refused("finish within a file", open_file.finish().await, "internal", "model.gguf")
}

/// The model's own is 256.
async fn context_length() -> Outcome {
    let gpu = open(true).await?;
    for (asked, expected) in
        [(None, Some(256)), (Some(256), Some(256)), (Some(1), Some(1)), (Some(0), None), (Some(257), None)]
    {
        let options = LoadOptions { context_length: asked, ..LoadOptions::default() };
        let mut loader = loader_with(&gpu, None, options).map_err(text)?;
        // Refused by the header alone: nobody should wait for gigabytes first.
        let pushed = push(&mut loader, "model.gguf", None, [Q4_1]);
        let what = format!("a context of {asked:?}");
        match expected {
            None => refused(&what, pushed, "invalid-argument", "1 to 256")?,
            Some(expected) => {
                pushed.map_err(text)?;
                let found = loader.finish().await.map_err(text)?.max_seq();
                if found != expected {
                    return Err(format!("{what} gave one of {found}, expected {expected}"));
                }
            }
        }
    }
    Ok(())
}

/// Values and names that no intact file has.
async fn damaged() -> Outcome {
    let gpu = open(true).await?;
    let norm = "blk.1.ffn_norm.weight";
    let header = header("model.gguf", Q4_1)?;
    let tensor = header.tensor(norm).ok_or_else(|| format!("the file has no {norm}"))?;
    for value in [f32::NAN, f32::NEG_INFINITY] {
        let mut bytes = Q4_1.to_vec();
        let last = tensor.end() as usize;
        bytes[last - 4..last].copy_from_slice(&value.to_le_bytes());
        let result = push(&mut loader(&gpu, None).map_err(text)?, "model.gguf", None, [&bytes[..]]);
        refused(&format!("{value} in {norm}"), result, "corrupt", norm)?;
    }
    let renamed = replaced(F16, b"blk.1.ffn_down.weight", b"blk.1.ffn_dawn.weight")?;
    let result = push(&mut loader(&gpu, None).map_err(text)?, "model.gguf", None, [&renamed[..]]);
    refused("a tensor of an unknown name", result, "unsupported-model", "blk.1.ffn_dawn.weight")?;
    let result =
        push(&mut loader(&gpu, None).map_err(text)?, "page.html", None, [&b"<!DOCTYPE html><html></html>"[..]]);
    refused("a page instead of a file", result, "corrupt", "page.html")
}

/// A file with `old`, which it holds once, replaced by as many other bytes.
fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Result<Vec<u8>, String> {
    assert_eq!(old.len(), new.len(), "the lengths in the file would be wrong");
    let name = String::from_utf8_lossy(old);
    let at = position(bytes, old).ok_or_else(|| format!("the file does not hold {name}"))?;
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    Ok(bytes)
}

/// Devices whose bindings hold some rows of a matrix each: the logits are the same to the bit, since a row is the
/// same sum wherever it lies.
async fn pieces(config: Option<&'static str>, bytes: &'static [u8], limits: [u64; 2]) -> Outcome {
    let mut whole: Option<([Vec<u32>; 2], usize)> = None;
    for max_binding_bytes in [None, Some(limits[0]), Some(limits[1])] {
        let mut loader = loader_with(&open_with(max_binding_bytes).await?, config, context_of(16)).map_err(text)?;
        push(&mut loader, "model", None, bytes.chunks(10_000)).map_err(text)?;
        let mut model = loader.finish().await.map_err(text)?;
        let mut found = [const { Vec::new() }; 2];
        // Ids all over the vocabulary by matrix products, then one by matrix-vector products.
        for (ids, found) in [&[1, 200, 0, 77, 77, 12, 258, 3][..], &[290]].into_iter().zip(&mut found) {
            model.step(ids, 0..ids.len()).map_err(text)?;
            *found = model.read_logits().await.map_err(text)?.into_iter().map(f32::to_bits).collect();
        }
        let n_dispatches = model.n_dispatches();
        let Some((whole, n_whole)) = &whole else {
            whole = Some((found, n_dispatches));
            continue;
        };
        let what = format!("bindings of {max_binding_bytes:?}");
        same(&format!("{what}, matrix products"), &found[0], &whole[0])?;
        same(&format!("{what}, matrix-vector products"), &found[1], &whole[1])?;
        if n_dispatches <= *n_whole {
            return Err(format!("{what}: {n_dispatches} dispatches, {n_whole} for whole matrices: nothing was split"));
        }
    }
    Ok(())
}

/// Not even one head of rows fits a binding, or not the KV cache.
async fn pieces_too_small() -> Outcome {
    let mut loader_of_k = loader_with(&open_with(Some(4096)).await?, None, context_of(1)).map_err(text)?;
    let result = push(&mut loader_of_k, "model.gguf", None, [K]);
    refused("rows larger than a binding", result, "out-of-memory", "model.gguf")?;
    let mut loader_of_f16 = loader(&open_with(Some(8 << 10)).await?, None).map_err(text)?;
    let result = push(&mut loader_of_f16, "model.gguf", None, [F16]);
    refused("a cache larger than a binding", result, "out-of-memory", "context of 256")
}

/// Floats that are quantised as they come, through portions that cut rows and heads anywhere.
async fn quantizes() -> Outcome {
    let gpu = open(true).await?;
    let values =
        |bits: Vec<u32>| -> Vec<f64> { bits.into_iter().map(|bits| f64::from(f32::from_bits(bits))).collect() };
    let exact = values(fingerprint(whole(&gpu, None)?).await?);
    let power: f64 = exact.iter().map(|logit| logit * logit).sum();
    // The power of the difference to the logits of bf16 weights, relative to theirs. Each bit more divides the error
    // of weights by 4, its square root halves; rows of 64 weights
    // do not take 256-wide types, nor rows of 172 any.
    for (recipe, types, most) in [
        (Recipe::Q8_0, "Q8_0, BF16", 2e-3),
        (Recipe::Q4_0, "Q4_0, BF16, Q8_0", 0.4),
        (Recipe::Q4KM, "Q5_0, BF16, Q8_0", 0.08),
        (Recipe::Q6K, "Q8_0, BF16", 2e-3),
    ] {
        let name = recipe.name();
        let loader = whole(&gpu, Some(recipe))?;
        let found = values(fingerprint(loader).await?);
        let error: f64 = found.iter().zip(&exact).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / power;
        if !(1e-12..most).contains(&error) {
            return Err(format!("{name}: the logits differ by {error} of their power, expected at most {most}"));
        }
        let loader = whole(&gpu, Some(recipe))?;
        let model = loader.finish().await.map_err(text)?;
        if model.quantization() != types {
            return Err(format!("{name}: the types are {}, expected {types}", model.quantization()));
        }
    }
    // What has no encoding.
    let mut bytes = HALVES.to_vec();
    let header = header("model.safetensors", HALVES)?;
    let name = "model.layers.1.mlp.up_proj.weight";
    let tensor = header.tensor(name).ok_or_else(|| format!("the file has no {name}"))?;
    let end = tensor.end() as usize;
    bytes[end - 2..end].copy_from_slice(&0x7f80_u16.to_le_bytes()); // infinity
    let options = LoadOptions { quantize: Some(Recipe::Q8_0), ..LoadOptions::default() };
    let mut loader = loader_with(&gpu, Some(HALVES_CONFIG), options).map_err(text)?;
    refused("an infinite weight", push(&mut loader, "model.safetensors", None, [&bytes[..]]), "corrupt", name)
}

fn whole(gpu: &Rc<Gpu>, quantize: Option<Recipe>) -> Result<Loader, String> {
    let options = LoadOptions { quantize, ..LoadOptions::default() };
    let mut loader = loader_with(gpu, Some(HALVES_CONFIG), options).map_err(text)?;
    push(&mut loader, "model.safetensors", None, HALVES.chunks(9999)).map_err(text)?;
    Ok(loader)
}

/// What a blueprint foresees is what a device allocates, but for uniforms; and which kernels it will need.
async fn memory_is_foreseen() -> Outcome {
    const UNIFORMS: u64 = 64 << 10;
    let gpu = open_with(None).await?;
    // Where something is measured, what wins is compiled at the end.
    let options = LoadOptions { kernels: Kernels::Baseline, ..LoadOptions::default() };
    let mut blueprint = Blueprint::new(gpu.limits(), options);
    blueprint.add(header("model.gguf", K)?).map_err(text)?;
    blueprint.check_complete().map_err(text)?;
    let foreseen = blueprint.memory(gpu.is_software()).map_err(text)?;
    // A load that was given up leaves nothing behind.
    let before = gpu.allocated_bytes();
    let mut given_up = loader_with(&gpu, None, options).map_err(text)?;
    given_up.begin_file("model.gguf", Some(K.len() as u64)).map_err(text)?;
    given_up.push(&K[..K.len() - 1000]).map_err(text)?;
    given_up.flush().await.map_err(text)?;
    drop(given_up);
    if gpu.allocated_bytes() != before {
        return Err(format!(
            "{before} bytes were allocated before a load that failed, {} after",
            gpu.allocated_bytes()
        ));
    }
    let mut loader = loader_with(&gpu, None, options).map_err(text)?;
    push(&mut loader, "model.gguf", None, [K]).map_err(text)?;
    loader.flush().await.map_err(text)?;
    let n_pipelines = gpu.n_pipelines();
    let model = loader.finish().await.map_err(text)?;
    if gpu.n_pipelines() != n_pipelines {
        return Err(format!("{n_pipelines} kernels were compiled during the load, {} at its end", gpu.n_pipelines()));
    }
    let found = (model.weight_bytes(), model.kv_bytes());
    if found != (foreseen.weights, foreseen.kv) {
        return Err(format!("weights and cache take {found:?}, foreseen were {foreseen:?}"));
    }
    let (all, total) = (gpu.allocated_bytes(), foreseen.total());
    if !(total..total + UNIFORMS).contains(&all) {
        return Err(format!("the device allocated {all} bytes, foreseen were {total}"));
    }
    Ok(())
}

/// On a device without `withheld`, which has kernels to choose from: they are measured, and compute what those for every
/// device do.
async fn measures(withheld: wgpu::Features) -> Outcome {
    // The clock says nothing where it takes longer to hear that nothing was done: as model::tuning has it.
    const MAX_ROUND_TRIP: Duration = Duration::from_millis(10);
    let gpu =
        Rc::new(Gpu::open(&GpuOptions { web: WEB.get(), withheld, ..GpuOptions::default() }).await.map_err(text)?);
    if gpu.features().intersects(withheld) {
        return Err(format!("the device has {:?}", gpu.features() & withheld));
    }
    // Of software adapters, those whose lanes are eight.
    if gpu.is_software() && gpu.offer().subgroup < 8 {
        return left_out("nothing is measured on this adapter");
    }
    let is_slow = async || {
        let begin = Instant::now();
        gpu.wait().await.map_err(text)?;
        Ok::<_, String>(!gpu.offer().timestamps && begin.elapsed() > MAX_ROUND_TRIP)
    };
    let too_slow = || left_out("the device takes too long to answer for the clock");
    if is_slow().await? {
        return too_slow();
    }
    let mut logits = Vec::new();
    for kernels in [Kernels::Baseline, Kernels::Auto] {
        let options = LoadOptions { kernels, ..context_of(16) };
        let mut loader = loader_with(&gpu, None, options).map_err(text)?;
        push(&mut loader, "model.gguf", None, [Q4_1]).map_err(text)?;
        let mut model = loader.finish().await.map_err(text)?;
        let info = gpu.adapter_info();
        let (backend, adapter, driver) = (info.backend.to_string(), gpu.adapter_name(), &info.driver_info);
        let found = model.tuning().of(&backend, &adapter, driver, gpu.offer());
        if found.is_empty() && kernels == Kernels::Auto && (is_slow().await? || is_slow().await? || is_slow().await?) {
            return too_slow();
        }
        if found.is_empty() == (kernels == Kernels::Auto) {
            return Err(format!("with {} kernels these were measured: {found:?}", kernels.name()));
        }
        model.step(&[1, 200, 0, 77, 77, 12, 258, 3], 0..8).map_err(text)?;
        logits.push(model.read_logits().await.map_err(text)?);
    }
    let far = |(a, b): (&f32, &f32)| (a - b).abs();
    let furthest = logits[0].iter().zip(&logits[1]).map(far).fold(0.0, f32::max);
    if furthest <= ROUNDED_LOGIT_TOLERANCE {
        return Ok(());
    }
    Err(format!("logits are {furthest} apart, {ROUNDED_LOGIT_TOLERANCE} are allowed"))
}

/// A device at WebGPU's defaults, but for the size of its bindings.
async fn open_with(max_binding_bytes: Option<u64>) -> Result<Rc<Gpu>, String> {
    let options = GpuOptions {
        limits: LimitChoice::Default,
        features: FeatureChoice::None,
        max_binding_bytes,
        ..GpuOptions::default()
    };
    Ok(Rc::new(Gpu::open(&options).await.map_err(text)?))
}

/// A GGUF file whose u32 metadata value `key` is another.
pub(crate) fn with_u32(bytes: &[u8], key: &str, value: u32) -> Result<Vec<u8>, String> {
    const U32: [u8; 4] = [4, 0, 0, 0];
    let at = position(bytes, key.as_bytes()).ok_or_else(|| format!("the file has no {key}"))? + key.len();
    if bytes[at..at + 4] != U32 {
        return Err(format!("{key} is not a u32"));
    }
    let mut bytes = bytes.to_vec();
    bytes[at + 4..at + 8].copy_from_slice(&value.to_le_bytes());
    Ok(bytes)
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
