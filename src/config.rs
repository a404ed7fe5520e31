//! The model's configuration: a config.json or a GGUF header enters, a checked [`ModelConfig`] leaves,
//! which knows the name and the shape of every weight.
//!
//! What the engine cannot run is refused here, before any weight is read, by the name of the setting:
//! ignoring a rope scaling, a bias or a softcap would still give fluent text, only the wrong one. This
//! file knows neither the GPU nor what weights are stored as.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::format::gguf::Metadata;
use crate::format::{Header, TensorInfo, shorten};

// Bounds far above any real model, but so low that a product of any two sizes and the number of
// layers fits `u64`. On wasm32 a product of two may still exceed `usize`.
const MAX_HIDDEN: u64 = 1 << 16;
const MAX_INTERMEDIATE: u64 = 1 << 20;
const MAX_LAYERS: u64 = 1 << 10;
const MAX_HEADS: u64 = 1 << 10;
const MAX_VOCAB: u64 = 1 << 24;
const MAX_CONTEXT: u64 = 1 << 28;
/// Also what the attention kernels hold of a head at once.
const MAX_HEAD_DIM: u64 = 256;

/// Which rows of a head rotate together, in q and k projections as they are stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RopePairs {
    /// Rows 2j and 2j + 1.
    Adjacent,
    /// Rows j and j + `head_dim` / 2.
    Halves,
}

/// What a Llama-class model looks like. Every size is positive and bounded; see
/// [`ModelConfig::from_json`] for what else holds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ModelConfig {
    /// `"llama"` or `"helium"`. They differ only in [`ModelConfig::rope_pairs`].
    pub architecture: String,
    /// The order of rows in the q and k projections.
    pub rope_pairs: RopePairs,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width between the feed-forward projections.
    pub intermediate_size: usize,
    /// Transformer blocks.
    pub n_layers: usize,
    /// Query heads, a multiple of [`ModelConfig::n_kv_heads`].
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head: even, at most 256, not always `hidden_size / n_heads`.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Positions the model was trained for.
    pub context_length: usize,
    /// Base of the rotary angles: pair j turns by `pos · rope_theta^(−2j / head_dim)`.
    pub rope_theta: f64,
    /// What `RMSNorm` adds to the mean of squares.
    pub norm_eps: f32,
    /// Whether the embedding serves as the output projection too.
    pub tie_word_embeddings: bool,
    /// The token a text begins with. Not checked against the vocabulary.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a text; often one, perhaps none. Not checked against the vocabulary.
    pub eos_token_ids: Vec<u32>,
}

/// A weight by its place in the model. `Display` writes its GGUF name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WeightId {
    /// Token embeddings, `[vocab_size, hidden_size]`.
    TokenEmbedding,
    /// The norm before the output projection, `[hidden_size]`.
    OutputNorm,
    /// The output projection (`lm_head`), `[vocab_size, hidden_size]`. Not there in a tied model.
    Output,
    /// A weight of the layer with this number, counted from 0.
    Layer(usize, LayerWeight),
}

/// A weight within a layer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LayerWeight {
    /// The norm before attention, `[hidden_size]`.
    AttnNorm,
    /// Query projection, `[n_heads · head_dim, hidden_size]`.
    Q,
    /// Key projection, `[n_kv_heads · head_dim, hidden_size]`.
    K,
    /// Value projection, `[n_kv_heads · head_dim, hidden_size]`.
    V,
    /// Attention's output projection, `[hidden_size, n_heads · head_dim]`.
    O,
    /// The norm before the feed-forward part, `[hidden_size]`.
    FfnNorm,
    /// Gate projection (`w1`), `[intermediate_size, hidden_size]`.
    Gate,
    /// Up projection (`w3`), `[intermediate_size, hidden_size]`.
    Up,
    /// Down projection (`w2`), `[hidden_size, intermediate_size]`.
    Down,
}

/// Checkpoint name and GGUF name of the weights outside layers.
const MODEL_WEIGHTS: [(WeightId, &str, &str); 3] = [
    (WeightId::TokenEmbedding, "model.embed_tokens.weight", "token_embd.weight"),
    (WeightId::OutputNorm, "model.norm.weight", "output_norm.weight"),
    (WeightId::Output, "lm_head.weight", "output.weight"),
];

/// Checkpoint name (after `model.layers.N.`) and GGUF name (after `blk.N.`) of the weights of a layer,
/// in the order they are used.
const LAYER_WEIGHTS: [(LayerWeight, &str, &str); 9] = [
    (LayerWeight::AttnNorm, "input_layernorm.weight", "attn_norm.weight"),
    (LayerWeight::Q, "self_attn.q_proj.weight", "attn_q.weight"),
    (LayerWeight::K, "self_attn.k_proj.weight", "attn_k.weight"),
    (LayerWeight::V, "self_attn.v_proj.weight", "attn_v.weight"),
    (LayerWeight::O, "self_attn.o_proj.weight", "attn_output.weight"),
    (LayerWeight::FfnNorm, "post_attention_layernorm.weight", "ffn_norm.weight"),
    (LayerWeight::Gate, "mlp.gate_proj.weight", "ffn_gate.weight"),
    (LayerWeight::Up, "mlp.up_proj.weight", "ffn_up.weight"),
    (LayerWeight::Down, "mlp.down_proj.weight", "ffn_down.weight"),
];

impl fmt::Display for WeightId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Layer(layer, weight) => {
                write!(formatter, "blk.{layer}.")?;
                LAYER_WEIGHTS.iter().find(|row| row.0 == *weight).map(|row| row.2)
            }
            _ => MODEL_WEIGHTS.iter().find(|row| row.0 == *self).map(|row| row.2),
        };
        formatter.write_str(name.unwrap_or_default())
    }
}

impl ModelConfig {
    /// Reads the text of a config.json; `file` names it in messages.
    ///
    /// Both of transformers' spellings are read: `rope_theta` by itself or within `rope_parameters`.
    /// Absent fields take the defaults of transformers' `LlamaConfig` or `HeliumConfig`, except for the
    /// sizes that no default could guess.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for what is no configuration or contradicts itself, and
    /// [`Error::UnsupportedModel`] for another architecture, a head of odd or too great width, scaled or
    /// partial `RoPE`, biases, an activation other than `SiLU`, a sliding window, or quantised checkpoints
    /// (GPTQ, AWQ and the like).
    pub fn from_json(file: &str, text: &str) -> Result<Self> {
        let fields: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            Error::Corrupt(format!("{file} is not a model configuration: {}", shorten(&error.to_string())))
        })?;
        let json = Json { file, fields: &fields, within: "" };

        let architecture = architecture(file, "model_type", json.string("model_type")?)?;
        let (rope_pairs, default_theta, default_eps) = match architecture {
            "helium" => (RopePairs::Adjacent, 1e5, 1e-8),
            _ => (RopePairs::Halves, 1e4, 1e-6),
        };
        json.refuse_unless("quantization_config", Value::is_null, "use the unquantised checkpoint or a GGUF file")?;
        json.refuse_unless("attention_bias", is_false, "biases are not supported")?;
        json.refuse_unless("mlp_bias", is_false, "biases are not supported")?;
        json.refuse_unless("hidden_act", |act| act == "silu", "only silu is supported")?;
        json.refuse_unless("sliding_window", Value::is_null, "sliding-window attention is not supported")?;
        let rope_theta = json.rope_theta()?.unwrap_or(default_theta);

        let (hidden_size, n_heads) =
            (json.size("hidden_size", MAX_HIDDEN)?, json.size("num_attention_heads", MAX_HEADS)?);
        let head_dim = match json.optional_size("head_dim", MAX_HEAD_DIM)? {
            Some(head_dim) => head_dim,
            None => head_dim_of(file, hidden_size, n_heads)?,
        };
        Self {
            architecture: architecture.to_owned(),
            rope_pairs,
            hidden_size,
            intermediate_size: json.size("intermediate_size", MAX_INTERMEDIATE)?,
            n_layers: json.size("num_hidden_layers", MAX_LAYERS)?,
            n_heads,
            n_kv_heads: json.optional_size("num_key_value_heads", MAX_HEADS)?.unwrap_or(n_heads),
            head_dim,
            vocab_size: json.size("vocab_size", MAX_VOCAB)?,
            context_length: json.size("max_position_embeddings", MAX_CONTEXT)?,
            rope_theta,
            norm_eps: json.positive("rms_norm_eps")?.unwrap_or(default_eps) as f32,
            tie_word_embeddings: json.bool("tie_word_embeddings")?.unwrap_or(false),
            bos_token_id: json.convert("bos_token_id", "a token's number", token_id)?,
            eos_token_ids: json.token_ids("eos_token_id")?,
        }
        .checked(file)
    }

    /// Reads a GGUF file's metadata and the shape of its embedding.
    ///
    /// The model is tied when the file has no `output.weight`. q and k of the architecture `llama` are
    /// stored with adjacent pairs, whatever the checkpoint had.
    ///
    /// # Errors
    ///
    /// As [`ModelConfig::from_json`], and for what only GGUF can say: experts, softcaps, scales of
    /// embedding, residual or logits, and files split into parts.
    pub fn from_gguf(header: &Header) -> Result<Self> {
        let (file, metadata) = (header.file.as_str(), &header.metadata);
        let architecture = architecture(file, "general.architecture", metadata.str("general.architecture")?)?;
        let gguf = Gguf { file, metadata, architecture };
        // Whether a part elsewhere has an `output.weight` cannot be seen from this one.
        if let Some(parts @ 2..) = metadata.u64("split.count")? {
            return Err(Error::UnsupportedModel(format!(
                "{file} is one of {parts} parts (split.count); merge them into one file"
            )));
        }
        gguf.refuse_scaled_rope()?;
        for (key, neutral, problem) in GGUF_NEUTRAL {
            gguf.refuse_unless(key, neutral, problem)?;
        }

        let embedding =
            header.tensor("token_embd.weight").ok_or_else(|| missing(file, "tensor", "token_embd.weight"))?;
        let vocab_size = bounded(file, "the number of rows of token_embd.weight", embedding.rows(), MAX_VOCAB)?;
        let hidden_size = gguf.size("embedding_length", MAX_HIDDEN)?;
        let n_heads = gguf.size("attention.head_count", MAX_HEADS)?;
        let head_dim = match gguf.optional_size("attention.key_length", MAX_HEAD_DIM)? {
            Some(head_dim) => head_dim,
            None => head_dim_of(file, hidden_size, n_heads)?,
        };
        for key in ["attention.value_length", "rope.dimension_count"] {
            if let Some(found) = gguf.u64(key)?
                && found != head_dim as u64
            {
                return Err(Error::UnsupportedModel(format!(
                    "{file}: {} is {found} but the width of a head is {head_dim}; only models in which they are \
                     equal are supported",
                    gguf.name(key)
                )));
            }
        }
        let mut eos_token_ids = Vec::new();
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
            eos_token_ids.extend(metadata.u32(key)?.filter(|id| !eos_token_ids.contains(id)));
        }
        let norm_eps = gguf.positive("attention.layer_norm_rms_epsilon")?;
        Self {
            architecture: architecture.to_owned(),
            rope_pairs: RopePairs::Adjacent,
            hidden_size,
            intermediate_size: gguf.size("feed_forward_length", MAX_INTERMEDIATE)?,
            n_layers: gguf.size("block_count", MAX_LAYERS)?,
            n_heads,
            n_kv_heads: gguf.optional_size("attention.head_count_kv", MAX_HEADS)?.unwrap_or(n_heads),
            head_dim,
            vocab_size,
            context_length: gguf.size("context_length", MAX_CONTEXT)?,
            rope_theta: gguf.positive("rope.freq_base")?.unwrap_or(1e4),
            norm_eps: gguf.needed("attention.layer_norm_rms_epsilon", norm_eps)? as f32,
            tie_word_embeddings: header.tensor("output.weight").is_none(),
            bos_token_id: metadata.u32("tokenizer.ggml.bos_token_id")?,
            eos_token_ids,
        }
        .checked(file)
    }

    /// What must hold between the fields, whatever they came from.
    fn checked(self, file: &str) -> Result<Self> {
        let (n_heads, n_kv_heads, head_dim) = (self.n_heads, self.n_kv_heads, self.head_dim);
        if !n_heads.is_multiple_of(n_kv_heads) {
            return Err(Error::Corrupt(format!(
                "{file}: {n_heads} query heads cannot share {n_kv_heads} key/value heads evenly"
            )));
        }
        if head_dim as u64 > MAX_HEAD_DIM || !head_dim.is_multiple_of(2) {
            return Err(Error::UnsupportedModel(format!(
                "{file}: the width of a head is {head_dim}; even widths up to {MAX_HEAD_DIM} are supported"
            )));
        }
        Ok(self)
    }

    /// The weight called `name` in a checkpoint or in a GGUF file.
    ///
    /// `None` for every other name, layers beyond the last included.
    #[must_use]
    pub fn weight_id(&self, name: &str) -> Option<WeightId> {
        if let Some((layer, rest)) = split_layer(name) {
            let weight = LAYER_WEIGHTS.iter().find(|row| rest == row.1 || rest == row.2)?;
            // One naming scheme or the other, not a mixture.
            let is_gguf = name.starts_with(GGUF_LAYER);
            let fits = rest == if is_gguf { weight.2 } else { weight.1 };
            return (fits && layer < self.n_layers).then_some(WeightId::Layer(layer, weight.0));
        }
        MODEL_WEIGHTS.iter().find(|row| name == row.1 || name == row.2).map(|row| row.0)
    }

    /// The shape of a weight, outermost dimension first: `[rows, cols]`, or `[len]` for a norm.
    #[must_use]
    pub fn shape(&self, id: WeightId) -> Vec<u64> {
        let [hidden, intermediate, vocab] =
            [self.hidden_size, self.intermediate_size, self.vocab_size].map(|size| size as u64);
        let [q_rows, kv_rows] = [self.n_heads, self.n_kv_heads].map(|n_heads| n_heads as u64 * self.head_dim as u64);
        match id {
            WeightId::TokenEmbedding | WeightId::Output => vec![vocab, hidden],
            WeightId::OutputNorm => vec![hidden],
            WeightId::Layer(_, weight) => match weight {
                LayerWeight::AttnNorm | LayerWeight::FfnNorm => vec![hidden],
                LayerWeight::Q => vec![q_rows, hidden],
                LayerWeight::K | LayerWeight::V => vec![kv_rows, hidden],
                LayerWeight::O => vec![hidden, q_rows],
                LayerWeight::Gate | LayerWeight::Up => vec![intermediate, hidden],
                LayerWeight::Down => vec![hidden, intermediate],
            },
        }
    }

    /// The weights that a file must hold, in the order a token meets them. [`WeightId::Output`] is not
    /// among them where the embeddings are tied.
    #[must_use]
    pub fn required(&self) -> Vec<WeightId> {
        let layers = (0..self.n_layers).flat_map(|layer| LAYER_WEIGHTS.map(|row| WeightId::Layer(layer, row.0)));
        let output = (!self.tie_word_embeddings).then_some(WeightId::Output);
        [WeightId::TokenEmbedding].into_iter().chain(layers).chain([WeightId::OutputNorm]).chain(output).collect()
    }

    /// Which weight a tensor of `file` is, its shape checked; `None` for one that may be skipped without
    /// changing the result: precomputed rotary frequencies, and an output projection in a tied model.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for another shape than the configuration implies or a layer beyond the last,
    /// [`Error::UnsupportedModel`] for a tensor without which the result would be wrong, such as a bias.
    pub fn check_tensor(&self, file: &str, tensor: &TensorInfo) -> Result<Option<WeightId>> {
        let name = tensor.name.as_str();
        match self.weight_id(name) {
            Some(WeightId::Output) if self.tie_word_embeddings => return Ok(None),
            Some(id) => {
                let expected = self.shape(id);
                if tensor.shape != expected {
                    return Err(Error::Corrupt(format!(
                        "{file}: tensor {name:?} has the shape {:?}; the configuration implies {expected:?}",
                        tensor.shape
                    )));
                }
                return Ok(Some(id));
            }
            None => {}
        }
        if name.ends_with("rotary_emb.inv_freq") || name.ends_with(".attn_rot_embd.weight") {
            return Ok(None); // a function of rope_theta
        }
        if let Some((layer, _)) = split_layer(name)
            && layer >= self.n_layers
        {
            return Err(Error::Corrupt(format!(
                "{file}: tensor {name:?} is of layer {layer}, counted from 0; the configuration has {} layers",
                self.n_layers
            )));
        }
        let problem = match name.rsplit('.').next().unwrap_or(name) {
            _ if name.starts_with("rope_f") => "holds factors of a scaled RoPE, which is not supported",
            "bias" => "is a bias, which is not supported",
            "qweight" | "qzeros" | "scales" | "g_idx" => {
                "belongs to a GPTQ or AWQ checkpoint; use the unquantised one or a GGUF file"
            }
            _ => "is not part of a Llama-class model as this engine runs it",
        };
        Err(Error::UnsupportedModel(format!("{file}: tensor {name:?} {problem}")))
    }

    /// How many weights the model has, those of a tied output projection counted once.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.required().iter().map(|id| self.shape(*id).iter().product::<u64>()).sum()
    }
}

const CHECKPOINT_LAYER: &str = "model.layers.";
const GGUF_LAYER: &str = "blk.";

/// The layer's number and what follows it in a tensor's name.
fn split_layer(name: &str) -> Option<(usize, &str)> {
    let (number, rest) =
        name.strip_prefix(CHECKPOINT_LAYER).or_else(|| name.strip_prefix(GGUF_LAYER))?.split_once('.')?;
    // Digits only and no leading zero: "07" and "+7" would be second names for layer 7.
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
    Some((number.parse().ok().filter(|_| is_plain)?, rest))
}

fn architecture(file: &str, key: &str, found: Option<&str>) -> Result<&'static str> {
    match found {
        Some("llama") => Ok("llama"),
        Some("helium") => Ok("helium"),
        Some(other) => Err(Error::UnsupportedModel(format!(
            "{file}: {key} is {}; models of the kind \"llama\" and \"helium\" are supported",
            shorten(&format!("{other:?}"))
        ))),
        None => Err(missing(file, "field", key)),
    }
}

/// The width of a head where the file does not give it.
fn head_dim_of(file: &str, hidden_size: usize, n_heads: usize) -> Result<usize> {
    if hidden_size.is_multiple_of(n_heads) {
        return Ok(hidden_size / n_heads);
    }
    Err(Error::Corrupt(format!(
        "{file}: no width of a head is given, and {n_heads} heads do not divide the hidden size {hidden_size}"
    )))
}

fn missing(file: &str, what: &str, name: &str) -> Error {
    Error::Corrupt(format!("{file}: the {what} {name} is missing; this is not a complete model"))
}

/// A size as `usize`, if it is from 1 to `max`.
fn bounded(file: &str, name: &str, value: u64, max: u64) -> Result<usize> {
    let message = || format!("{file}: {name} is {value}; 1 to {max} is supported");
    match usize::try_from(value) {
        Ok(0) => Err(Error::Corrupt(message())),
        Ok(size) if value <= max => Ok(size),
        _ => Err(Error::UnsupportedModel(message())),
    }
}

/// What a config.json and GGUF metadata have in common: numbers by key.
trait Source {
    /// The file's name.
    fn file(&self) -> &str;
    /// The key as the file spells it.
    fn name(&self, key: &str) -> String;
    /// An integer; an error where it is something else.
    fn u64(&self, key: &str) -> Result<Option<u64>>;
    /// A number; an error where it is something else.
    fn f64(&self, key: &str) -> Result<Option<f64>>;

    fn needed<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| missing(self.file(), "field", &self.name(key)))
    }

    fn optional_size(&self, key: &str, max: u64) -> Result<Option<usize>> {
        self.u64(key)?.map(|value| bounded(self.file(), &self.name(key), value, max)).transpose()
    }

    fn size(&self, key: &str, max: u64) -> Result<usize> {
        let size = self.optional_size(key, max)?;
        self.needed(key, size)
    }

    /// A number that is positive and finite, also as `f32`.
    fn positive(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.f64(key)? else { return Ok(None) };
        if value as f32 > 0.0 && (value as f32).is_finite() {
            return Ok(Some(value));
        }
        let (file, name) = (self.file(), self.name(key));
        Err(Error::Corrupt(format!("{file}: {name} is {value:?}; expected a positive number that fits 32 bits")))
    }
}

/// The fields of a config.json, or of an object within it. A field that is null counts as absent.
struct Json<'a> {
    file: &'a str,
    fields: &'a Map<String, Value>,
    /// What stands before the keys in messages: empty or `"rope_parameters."`.
    within: &'static str,
}

fn is_false(value: &Value) -> bool {
    value == &Value::Bool(false)
}

fn token_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

impl<'a> Json<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    /// A field that `convert` accepts.
    fn convert<T>(&self, key: &str, expected: &str, convert: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        convert(value).map(Some).ok_or_else(|| {
            let (file, name, found) = (self.file, self.name(key), shorten(&value.to_string()));
            Error::Corrupt(format!("{file}: {name} should be {expected} but is {found}"))
        })
    }

    fn string(&self, key: &str) -> Result<Option<&'a str>> {
        self.convert(key, "a string", Value::as_str)
    }

    fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.convert(key, "true or false", Value::as_bool)
    }

    /// A token's number, a list of them, or nothing.
    fn token_ids(&self, key: &str) -> Result<Vec<u32>> {
        let ids = self.convert(key, "a token's number or a list of them", |value| match value {
            Value::Array(values) => values.iter().map(token_id).collect(),
            _ => token_id(value).map(|id| vec![id]),
        })?;
        Ok(ids.unwrap_or_default())
    }

    /// Refuses the model if the field is there and not `neutral`.
    fn refuse_unless(&self, key: &str, neutral: impl Fn(&Value) -> bool, problem: &str) -> Result<()> {
        match self.get(key) {
            Some(value) if !neutral(value) => {
                let (file, name, found) = (self.file, self.name(key), shorten(&value.to_string()));
                Err(Error::UnsupportedModel(format!("{file}: {name} is {found}; {problem}")))
            }
            _ => Ok(()),
        }
    }

    /// `rope_theta`, having refused every other kind of rotation.
    fn rope_theta(&self) -> Result<Option<f64>> {
        const PARTIAL: &str = "partial_rotary_factor";
        const PLAIN_ONLY: &str = "only RoPE without scaling, over the whole head, is supported";
        let is_one = |value: &Value| value.as_f64() == Some(1.0);
        self.refuse_unless(PARTIAL, is_one, PLAIN_ONLY)?;
        let mut theta = self.positive("rope_theta")?;
        for (key, within) in [("rope_scaling", "rope_scaling."), ("rope_parameters", "rope_parameters.")] {
            let Some(fields) = self.convert(key, "an object", Value::as_object)? else { continue };
            let rope = Json { file: self.file, fields, within };
            for key in fields.keys() {
                match key.as_str() {
                    "rope_theta" => {}
                    PARTIAL => rope.refuse_unless(key, is_one, PLAIN_ONLY)?,
                    "rope_type" | "type" => rope.refuse_unless(key, |kind| kind == "default", PLAIN_ONLY)?,
                    _ => rope.refuse_unless(key, Value::is_null, PLAIN_ONLY)?,
                }
            }
            let Some(found) = rope.positive("rope_theta")? else { continue };
            if let Some(other) = theta.filter(|other| other.total_cmp(&found).is_ne()) {
                let (file, name) = (self.file, rope.name("rope_theta"));
                return Err(Error::Corrupt(format!("{file}: {name} is {found} but rope_theta is {other}")));
            }
            theta = Some(found);
        }
        Ok(theta)
    }
}

impl Source for Json<'_> {
    fn file(&self) -> &str {
        self.file
    }

    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.within)
    }

    fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.convert(key, "a whole number", Value::as_u64)
    }

    fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.convert(key, "a number", Value::as_f64)
    }
}

/// A GGUF file's keys of one architecture.
struct Gguf<'a> {
    file: &'a str,
    metadata: &'a Metadata,
    /// What stands before the keys.
    architecture: &'static str,
}

/// Settings of other architectures that some converters write for this one too, with the values that
/// mean "not used" and what to say about any other.
const GGUF_NEUTRAL: [(&str, &[f32], &str); 11] = [
    ("expert_count", &[0.0], "mixtures of experts are not supported"),
    ("expert_used_count", &[0.0], "mixtures of experts are not supported"),
    ("attention.sliding_window", &[0.0], "sliding-window attention is not supported"),
    ("attn_logit_softcapping", &[0.0], "softcapping is not supported"),
    ("final_logit_softcapping", &[0.0], "softcapping is not supported"),
    ("attention.max_alibi_bias", &[0.0], "ALiBi is not supported"),
    ("attention.clamp_kqv", &[0.0], "clamped projections are not supported"),
    ("attention.scale", &[0.0], "another attention scale than 1/sqrt(head width) is not supported"),
    ("embedding_scale", &[0.0, 1.0], "scaled embeddings are not supported"),
    ("residual_scale", &[0.0, 1.0], "scaled residuals are not supported"),
    ("logit_scale", &[0.0, 1.0], "scaled logits are not supported"),
];

impl Gguf<'_> {
    fn refuse(&self, key: &str, found: impl fmt::Display, problem: &str) -> Error {
        Error::UnsupportedModel(format!("{}: {} is {found}; {problem}", self.file, self.name(key)))
    }

    /// Refuses the model if the number is there and none of `neutral`.
    fn refuse_unless(&self, key: &str, neutral: &[f32], problem: &str) -> Result<()> {
        match self.metadata.f32(&self.name(key))? {
            Some(found) if !neutral.contains(&found) => Err(self.refuse(key, found, problem)),
            _ => Ok(()),
        }
    }

    fn refuse_scaled_rope(&self) -> Result<()> {
        const PROBLEM: &str = "scaled RoPE is not supported";
        if let Some(kind) = self.metadata.str(&self.name("rope.scaling.type"))?
            && kind != "none"
        {
            return Err(self.refuse("rope.scaling.type", shorten(&format!("{kind:?}")), PROBLEM));
        }
        // llama.cpp reads a factor of 0 as "none"; the second is the key's name of 2023.
        self.refuse_unless("rope.scaling.factor", &[0.0, 1.0], PROBLEM)?;
        self.refuse_unless("rope.scale_linear", &[0.0, 1.0], PROBLEM)?;
        self.refuse_unless("rope.scaling.attn_factor", &[1.0], PROBLEM)
    }
}

impl Source for Gguf<'_> {
    fn file(&self) -> &str {
        self.file
    }

    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.metadata.u64(&self.name(key))
    }

    fn f64(&self, key: &str) -> Result<Option<f64>> {
        Ok(self.metadata.f32(&self.name(key))?.map(f64::from))
    }
}
