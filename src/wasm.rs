//! The engine as a browser sees it: the only file that names `wasm_bindgen`, `web_sys` and `js_sys`.
//!
//! Objects cross as JSON, so that both sides can say what is in them. A method that waits takes the model out of
//! the engine while it runs; what is asked meanwhile is answered from copies, or refused. Errors are JavaScript
//! `Error`s with the `code` of [`Error::code`].

use std::cell::RefCell;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::bench::{BenchOptions, bench};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::format::{Progress, parse_header};
use crate::gpu::{FeatureChoice, Gpu, GpuOptions, LimitChoice, WebOffer};
use crate::loader::{LoadOptions, Loader};
use crate::model::blueprint::Blueprint;
use crate::model::{Model, Tuning};
use crate::sampler::Sampling;
use crate::score;
use crate::session::{self, Cancel, GenerateOptions, Generation, Piece};
use crate::tokenizer::{GgufVocab, Tokenizer};

/// A device, and the model loaded on it.
#[wasm_bindgen(js_name = Engine)]
pub struct WasmEngine {
    gpu: Rc<Gpu>,
    loader: RefCell<Option<Loader>>,
    tokenizer: RefCell<Option<Rc<Tokenizer>>>,
    model: RefCell<Option<Model>>,
    info: RefCell<Value>,
    stats: RefCell<Value>,
}

/// What `Engine.open` takes.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct OpenOptions {
    power_preference: Option<String>,
    limits: Option<String>,
    features: Option<String>,
    /// The device will have subgroups; shaders have `dot4I8Packed`.
    subgroups: bool,
    packed_dot: bool,
}

/// What `Engine.generate` takes besides the prompt.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct JsGenerateOptions {
    max_tokens: usize,
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    logit_bias: Vec<(u32, f32)>,
    seed: Option<u64>,
    stop: Vec<String>,
    logprobs: usize,
}

impl Default for JsGenerateOptions {
    fn default() -> Self {
        let GenerateOptions { max_tokens, sampling, stop, n_top } = GenerateOptions::default();
        Self {
            max_tokens,
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repetition_penalty: sampling.repetition_penalty,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            logit_bias: sampling.logit_bias,
            seed: sampling.seed,
            stop,
            logprobs: n_top,
        }
    }
}

impl From<JsGenerateOptions> for GenerateOptions {
    fn from(options: JsGenerateOptions) -> Self {
        Self {
            max_tokens: options.max_tokens,
            sampling: Sampling {
                temperature: options.temperature,
                top_k: options.top_k,
                top_p: options.top_p,
                min_p: options.min_p,
                repetition_penalty: options.repetition_penalty,
                presence_penalty: options.presence_penalty,
                frequency_penalty: options.frequency_penalty,
                logit_bias: options.logit_bias,
                seed: options.seed,
            },
            stop: options.stop,
            n_top: options.logprobs,
        }
    }
}

/// What `Engine.bench` takes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct JsBenchOptions {
    prompt_tokens: usize,
    decode_tokens: usize,
    runs: usize,
    trace: bool,
}

impl Default for JsBenchOptions {
    fn default() -> Self {
        let BenchOptions { prompt_tokens, decode_tokens, runs, trace } = BenchOptions::default();
        Self { prompt_tokens, decode_tokens, runs, trace }
    }
}

impl From<JsBenchOptions> for BenchOptions {
    fn from(options: JsBenchOptions) -> Self {
        let JsBenchOptions { prompt_tokens, decode_tokens, runs, trace } = options;
        Self { prompt_tokens, decode_tokens, runs, trace }
    }
}

#[wasm_bindgen(js_class = Engine)]
impl WasmEngine {
    /// Opens the device. `options`: `{powerPreference?, limits?: "default" | "adapter", features?: "none" | "auto",
    /// subgroups?, packedDot?}`; the last two say what the browser has that wgpu cannot see. `compiling` returns what
    /// resolves once the pipelines that the browser compiles behind the scenes are there, or nothing where it does not.
    pub async fn open(options: JsValue, compiling: Option<js_sys::Function>) -> Result<WasmEngine, JsValue> {
        console_error_panic_hook::set_once();
        let options: OpenOptions = from_js("gpu", &options)?;
        let choice = |name: &str, value: &Option<String>, [first, second]: [&str; 2]| match value.as_deref() {
            None => Ok(None),
            Some(value) if value == first => Ok(Some(false)),
            Some(value) if value == second => Ok(Some(true)),
            Some(value) => Err(to_js(&Error::InvalidArgument(format!(
                "gpu.{name} must be {first:?} or {second:?}; found {value:?}"
            )))),
        };
        let low_power = choice("powerPreference", &options.power_preference, ["high-performance", "low-power"])?;
        let by_adapter = choice("limits", &options.limits, ["default", "adapter"])?;
        let by_offer = choice("features", &options.features, ["none", "auto"])?;
        let options = GpuOptions {
            limits: if by_adapter == Some(false) { LimitChoice::Default } else { LimitChoice::Adapter },
            features: if by_offer == Some(false) { FeatureChoice::None } else { FeatureChoice::Auto },
            low_power: low_power == Some(true),
            web: WebOffer { subgroups: options.subgroups, packed_dot: options.packed_dot },
            ..GpuOptions::default()
        };
        let mut gpu = Gpu::open(&options).await.map_err(|error| to_js(&error))?;
        if let Some(compiling) = compiling {
            gpu.compile_behind(Box::new(move || {
                let promise = compiling.call0(&JsValue::NULL).ok()?.dyn_into::<js_sys::Promise>().ok()?;
                // What was refused is compiled where it is used, and reported there.
                Some(Box::pin(async { drop(JsFuture::from(promise).await) }))
            }));
        }
        Ok(Self {
            gpu: Rc::new(gpu),
            loader: RefCell::new(None),
            tokenizer: RefCell::new(None),
            model: RefCell::new(None),
            info: RefCell::new(Value::Null),
            stats: RefCell::new(Value::Null),
        })
    }

    /// `{name, backend, software, features, limits}` of the device.
    pub fn adapter(&self) -> Result<JsValue, JsValue> {
        json_to_js(&self.adapter_json())
    }

    /// Begins a model: `{contextLength?, quantize?: string, kernels?: string, tuning?: string, configJson?: string,
    /// tokenizerJson?: Uint8Array}`. The configuration is for safetensors; the tokenizer wins over a GGUF file's own
    /// vocabulary; matrices of floats are quantised by the recipe of that name; `tuning` is what an earlier load left.
    pub fn begin(&self, options: &JsValue) -> Result<(), JsValue> {
        let tokenizer_json = field(options, "tokenizerJson").dyn_into::<js_sys::Uint8Array>().ok();
        let begin = || {
            let mut loader = Loader::new(Rc::clone(&self.gpu), load_options(options)?);
            if let Some(config) = given_config(options)? {
                loader.set_config(config);
            }
            if let Some(tuning) = field(options, "tuning").as_string() {
                loader.set_tuning(Tuning::from_json(&tuning));
            }
            let tokenizer =
                tokenizer_json.map(|bytes| Tokenizer::from_json("tokenizer.json", &bytes.to_vec())).transpose()?;
            self.model.replace(None);
            self.tokenizer.replace(tokenizer.map(Rc::new));
            self.loader.replace(Some(loader));
            Ok(())
        };
        begin().map_err(|error: Error| to_js(&error))
    }

    /// Begins a file of the model, of `size` bytes if known.
    #[wasm_bindgen(js_name = beginFile)]
    pub fn begin_file(&self, name: &str, size: Option<f64>) -> Result<(), JsValue> {
        self.with_loader(|loader| loader.begin_file(name, size.map(|size| size as u64)))
    }

    /// Takes the next bytes of the file.
    pub fn push(&self, bytes: &[u8]) -> Result<(), JsValue> {
        self.with_loader(|loader| loader.push(bytes))
    }

    /// Waits until the device has taken what was pushed.
    pub async fn flush(&self) -> Result<(), JsValue> {
        let mut loader = self.loader.take().ok_or_else(not_begun)?;
        let flushed = loader.flush().await;
        self.loader.replace(Some(loader));
        flushed.map_err(|error| to_js(&error))
    }

    /// Ends the file.
    #[wasm_bindgen(js_name = endFile)]
    pub fn end_file(&self) -> Result<(), JsValue> {
        self.with_loader(Loader::end_file)
    }

    /// Ends the model: it is ready then.
    pub async fn finish(&self) -> Result<(), JsValue> {
        let loader = self.loader.take().ok_or_else(not_begun)?;
        let finish = async {
            if self.tokenizer.borrow().is_none()
                && let Some(metadata) = loader.metadata()
                && let Some(vocab) = GgufVocab::from_metadata("the GGUF file", metadata)?
            {
                self.tokenizer.replace(Some(Rc::new(Tokenizer::from_gguf(vocab)?)));
            }
            let model = loader.finish().await?;
            if let Some(tokenizer) = self.tokenizer.borrow().as_ref() {
                tokenizer.check_fits(model.config().vocab_size)?;
            }
            self.info.replace(self.info_json(&model));
            self.model.replace(Some(model));
            Ok(())
        };
        finish.await.map_err(|error: Error| to_js(&error))
    }

    /// Which kernels were found fastest, for the next load.
    pub fn tuning(&self) -> Option<String> {
        self.model.borrow().as_ref().map(|model| model.tuning().to_json())
    }

    /// Measures speed: `{promptTokens?, decodeTokens?, runs?, trace?}`. Resolves to the figures of `helium bench --json`.
    pub async fn bench(&self, options: JsValue) -> Result<JsValue, JsValue> {
        let options: JsBenchOptions = from_js("options", &options)?;
        let mut model = self.model.take().ok_or_else(|| to_js(&busy()))?;
        let report = bench(&mut model, &options.into()).await;
        self.model.replace(Some(model));
        json_to_js(&json!(report.map_err(|error| to_js(&error))?))
    }

    /// What is loaded, and where.
    pub fn info(&self) -> Result<JsValue, JsValue> {
        json_to_js(&self.info.borrow())
    }

    /// Figures of the last generation; `null` before the first.
    pub fn stats(&self) -> Result<JsValue, JsValue> {
        json_to_js(&self.stats.borrow())
    }

    /// The token ids of a text, BOS included where the tokenizer adds it.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, JsValue> {
        self.tokenizer().and_then(|tokenizer| tokenizer.encode(text)).map_err(|error| to_js(&error))
    }

    /// The text of token ids.
    pub fn detokenize(&self, ids: &[u32]) -> Result<String, JsValue> {
        self.tokenizer().and_then(|tokenizer| tokenizer.decode(ids)).map_err(|error| to_js(&error))
    }

    /// Continues `prompt`, a text or the ids of its tokens; `on_token` is called with `{text, id, logprob, top}` for every token. Resolves to
    /// `{text, ids, promptIds, finishReason, seed, timings}`.
    pub async fn generate(
        &self,
        prompt: JsValue,
        options: JsValue,
        cancel: &WasmCancel,
        on_token: js_sys::Function,
    ) -> Result<JsValue, JsValue> {
        let options: JsGenerateOptions = from_js("options", &options)?;
        let options = GenerateOptions::from(options);
        let tokenizer = self.tokenizer().map_err(|error| to_js(&error))?;
        let prompt_ids = match prompt.dyn_into::<js_sys::Uint32Array>() {
            Ok(ids) => ids.to_vec(),
            Err(text) => tokenizer.encode(&text.as_string().unwrap_or_default()).map_err(|error| to_js(&error))?,
        };
        let cancel = cancel.cancel.clone();
        let mut model = self.model.take().ok_or_else(|| to_js(&busy()))?;
        let mut thrown = None;
        let mut ids = prompt_ids.clone();
        let generated =
            session::generate(&mut model, Some(&tokenizer), &prompt_ids, &options, &cancel, |piece: &Piece| {
                let called = json_to_js(&piece_json(&tokenizer, &ids, piece))
                    .and_then(|piece| on_token.call1(&JsValue::NULL, &piece));
                if let Err(error) = called {
                    thrown.get_or_insert(error);
                    cancel.cancel();
                }
                ids.extend(piece.id);
            })
            .await;
        if let Ok(generation) = &generated {
            self.stats.replace(self.stats_json(&model, generation));
        }
        self.model.replace(Some(model));
        if let Some(error) = thrown {
            return Err(error);
        }
        json_to_js(&generation_json(&generated.map_err(|error| to_js(&error))?))
    }

    /// The log-probability of each token of `text`: `{ids, logprobs, meanNll, perplexity, top}`.
    pub async fn score(&self, text: String, n_top: usize, cancel: &WasmCancel) -> Result<JsValue, JsValue> {
        let tokenizer = self.tokenizer().map_err(|error| to_js(&error))?;
        let ids = tokenizer.encode(&text).map_err(|error| to_js(&error))?;
        let cancel = cancel.cancel.clone();
        let mut model = self.model.take().ok_or_else(|| to_js(&busy()))?;
        let scored = score::score(&mut model, &ids, n_top, &cancel).await;
        self.model.replace(Some(model));
        let scored = scored.map_err(|error| to_js(&error))?;
        let top: Vec<Value> = scored.top.iter().zip(1..).map(|(top, n)| top_json(&tokenizer, &ids[..n], top)).collect();
        json_to_js(&json!({
            "ids": scored.ids,
            "logprobs": scored.logprobs,
            "meanNll": scored.mean_nll,
            "perplexity": scored.perplexity(),
            "top": top,
        }))
    }
}

impl WasmEngine {
    fn with_loader(&self, act: impl FnOnce(&mut Loader) -> Result<()>) -> Result<(), JsValue> {
        let mut loader = self.loader.borrow_mut();
        let loader = loader.as_mut().ok_or_else(not_begun)?;
        act(loader).map_err(|error| to_js(&error))
    }

    fn tokenizer(&self) -> Result<Rc<Tokenizer>> {
        self.tokenizer.borrow().clone().ok_or_else(|| {
            Error::InvalidArgument("this model came without a tokenizer; load it with its tokenizer.json".into())
        })
    }

    fn adapter_json(&self) -> Value {
        let limits = self.gpu.limits();
        let offer = self.gpu.offer();
        // By the names that WebGPU has for them.
        let features: Vec<&str> = [
            ("subgroups", offer.subgroup > 1),
            ("shader-f16", offer.f16),
            ("packed_4x8_integer_dot_product", offer.packed_dot),
            ("timestamp-query", offer.timestamps),
        ]
        .into_iter()
        .filter_map(|(name, is_there)| is_there.then_some(name))
        .collect();
        json!({
            "name": self.gpu.adapter_name(),
            "backend": self.gpu.adapter_info().backend.to_string(),
            "software": self.gpu.is_software(),
            "features": features,
            "limits": {
                "maxBufferSize": limits.max_buffer_size,
                "maxStorageBufferBindingSize": limits.max_storage_buffer_binding_size,
            },
        })
    }

    fn info_json(&self, model: &Model) -> Value {
        let config = model.config();
        let tokenizer = self.tokenizer.borrow();
        json!({
            "architecture": config.architecture,
            "parameters": config.parameters(),
            "config": config,
            "quantization": model.quantization(),
            "contextLength": model.max_seq(),
            "tokenizer": tokenizer.as_ref().map(|tokenizer| {
                json!({"kind": tokenizer.kind(), "vocab": tokenizer.vocab_size()})
            }),
            "adapter": self.adapter_json(),
            "kernels": model.kernels(),
            "memory": {
                "weightBytes": model.weight_bytes(),
                "kvBytes": model.kv_bytes(),
                "gpuBytes": self.gpu.allocated_bytes(),
                // WebAssembly memory never shrinks: this is also the most that loading took.
                "wasmBytes": core::arch::wasm32::memory_size::<0>() << 16,
            },
        })
    }

    fn stats_json(&self, model: &Model, generation: &Generation) -> Value {
        let per_second = |n: usize, ms: f64| if ms > 0.0 { n as f64 * 1e3 / ms } else { 0.0 };
        // The first token comes with the prompt.
        let n_decoded = generation.ids.len().saturating_sub(1);
        json!({
            "prefill_tps": per_second(generation.prompt_ids.len() - generation.n_reused, generation.prompt_ms),
            "decode_tps": per_second(n_decoded, generation.decode_ms),
            "ttft_ms": generation.ttft_ms,
            "dispatches_per_token": model.n_dispatches(),
            "encode_us_per_token": generation.encode_us_per_token,
            "weight_bytes": model.weight_bytes(),
            "kv_bytes": model.kv_bytes(),
            "gpu_bytes": self.gpu.allocated_bytes(),
        })
    }
}

/// What a model will be on a device, from the headers of its files.
#[wasm_bindgen(js_name = ModelPlan)]
pub struct WasmPlan {
    blueprint: Blueprint,
    is_software: bool,
}

#[wasm_bindgen(js_class = ModelPlan)]
impl WasmPlan {
    /// `{contextLength?, quantize?, configJson?}` as for `Engine.begin`, and `{limits: {maxBufferSize,
    /// maxStorageBufferBindingSize}}` of the adapter, WebGPU's defaults where absent; `software` if it computes on the CPU.
    #[wasm_bindgen(constructor)]
    pub fn new(options: &JsValue) -> Result<WasmPlan, JsValue> {
        let given = field(options, "limits");
        let limit = |name: &str, default: u64| field(&given, name).as_f64().map_or(default, |limit| limit as u64);
        let defaults = wgpu::Limits::default();
        let limits = wgpu::Limits {
            max_buffer_size: limit("maxBufferSize", defaults.max_buffer_size),
            max_storage_buffer_binding_size: limit(
                "maxStorageBufferBindingSize",
                defaults.max_storage_buffer_binding_size,
            ),
            ..defaults
        };
        let plan = || {
            let mut blueprint = Blueprint::new(limits, load_options(options)?);
            if let Some(config) = given_config(options)? {
                blueprint.set_config(config);
            }
            Ok(Self { blueprint, is_software: field(options, "software").is_truthy() })
        };
        plan().map_err(|error: Error| to_js(&error))
    }

    /// Takes the beginning of a file. Returns 0 if it holds the header, else how many bytes of the file to come back
    /// with.
    #[wasm_bindgen(js_name = addFile)]
    pub fn add_file(&mut self, name: &str, head: &[u8], size: Option<f64>) -> Result<f64, JsValue> {
        let mut add = || match parse_header(name, head, size.map(|size| size as u64))? {
            Progress::NeedMore(n_bytes) => Ok(n_bytes as f64),
            Progress::Done(header) => self.blueprint.add(header).map(|_| 0.0),
        };
        add().map_err(|error| to_js(&error))
    }

    /// `{architecture, parameters, quantization, contextLength, weightBytes, kvBytes, gpuBytes}`, when all files were
    /// added.
    pub fn finish(&self) -> Result<JsValue, JsValue> {
        let finish = || {
            self.blueprint.check_complete()?;
            let (config, memory) = (self.blueprint.config()?, self.blueprint.memory(self.is_software)?);
            Ok(json!({
                "architecture": config.architecture,
                "parameters": config.parameters(),
                "quantization": self.blueprint.quantization(),
                "contextLength": self.blueprint.context_length()?,
                "weightBytes": memory.weights,
                "kvBytes": memory.kv,
                "gpuBytes": memory.total(),
            }))
        };
        json_to_js(&finish().map_err(|error: Error| to_js(&error))?)
    }
}

/// Stops a generation.
#[wasm_bindgen(js_name = Cancel)]
#[derive(Default)]
pub struct WasmCancel {
    cancel: Cancel,
}

#[wasm_bindgen(js_class = Cancel)]
impl WasmCancel {
    /// One that has not been asked yet.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the generation to stop, within one token.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

/// The SHA-256 of bytes that come in pieces: a browser's own takes only a whole message.
#[wasm_bindgen(js_name = Sha256)]
#[derive(Default)]
pub struct WasmSha256 {
    hasher: Sha256,
}

#[wasm_bindgen(js_class = Sha256)]
impl WasmSha256 {
    /// The digest of nothing yet.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The digest of the bytes so far, in lower-case hex.
    pub fn hex(&self) -> String {
        let halves = self.hasher.clone().finalize().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
        halves.filter_map(|half| char::from_digit(half.into(), 16)).collect()
    }
}

fn piece_json(tokenizer: &Tokenizer, ids: &[u32], piece: &Piece) -> Value {
    let mut object = json!({"text": piece.text, "id": piece.id, "logprob": piece.logprob});
    if !piece.top.is_empty() {
        object["top"] = top_json(tokenizer, ids, &piece.top);
    }
    object
}

/// The candidates with the text each would have added after `ids`.
fn top_json(tokenizer: &Tokenizer, ids: &[u32], top: &[(u32, f32)]) -> Value {
    top.iter()
        .map(|(id, logprob)| {
            let mut stream = tokenizer.stream_after(ids);
            let text = stream.push(*id).map(|text| text + &stream.finish()).unwrap_or_default();
            json!({"id": id, "text": text, "logprob": logprob})
        })
        .collect()
}

fn generation_json(generation: &Generation) -> Value {
    json!({
        "text": generation.text,
        "ids": generation.ids,
        "promptIds": generation.prompt_ids,
        "finishReason": generation.finish_reason.name(),
        "seed": generation.seed,
        "timings": {
            "promptMs": generation.prompt_ms,
            "decodeMs": generation.decode_ms,
            "ttftMs": generation.ttft_ms,
        },
    })
}

fn busy() -> Error {
    Error::InvalidArgument("no model is ready: load one first, and wait for the run under way to end".into())
}

/// A property; `undefined` where there is none.
fn field(object: &JsValue, name: &str) -> JsValue {
    js_sys::Reflect::get(object, &name.into()).unwrap_or(JsValue::UNDEFINED)
}

fn load_options(options: &JsValue) -> Result<LoadOptions> {
    Ok(LoadOptions {
        context_length: field(options, "contextLength").as_f64().map(|length| length as usize),
        quantize: field(options, "quantize").as_string().map(|name| name.parse()).transpose()?,
        kernels: field(options, "kernels").as_string().map(|name| name.parse()).transpose()?.unwrap_or_default(),
    })
}

fn given_config(options: &JsValue) -> Result<Option<ModelConfig>> {
    let text = field(options, "configJson").as_string();
    text.map(|text| ModelConfig::from_json("config.json", &text)).transpose()
}

fn not_begun() -> JsValue {
    to_js(&Error::Internal("the load was not begun, or has failed".into()))
}

/// A JavaScript object as a Rust one; `name` names it in messages. Absent is empty.
fn from_js<T: for<'de> Deserialize<'de> + Default>(name: &str, value: &JsValue) -> Result<T, JsValue> {
    if value.is_undefined() || value.is_null() {
        return Ok(T::default());
    }
    let text = js_sys::JSON::stringify(value).ok().and_then(|text| text.as_string()).unwrap_or_default();
    serde_json::from_str(&text).map_err(|error| to_js(&Error::InvalidArgument(format!("{name}: {error}"))))
}

fn json_to_js(value: &Value) -> Result<JsValue, JsValue> {
    js_sys::JSON::parse(&value.to_string())
}

fn to_js(error: &Error) -> JsValue {
    let object = js_sys::Error::new(&error.to_string());
    // Setting a property of a plain object does not fail.
    let _ = js_sys::Reflect::set(&object, &"code".into(), &error.code().into());
    object.into()
}
