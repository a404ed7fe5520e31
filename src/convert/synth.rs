//! Random weights of the real shapes, for tests of loading and speed: the text they give is noise.

use std::ops::Range;
use std::str::FromStr;

use super::Source;
use super::checkpoint::described;
use crate::config::{LayerWeight, ModelConfig, RopePairs, WeightId};
use crate::error::{Error, Result};
use crate::format::Dtype;
use crate::format::gguf::{Array, Metadata, Value};

/// A model whose shapes are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// Kyutai's Helium-1 of April 2025.
    Helium1,
    /// Its preview of January 2025.
    Helium1Preview,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Helium1, Self::Helium1Preview];

    /// The name in options.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Helium1 => "helium-1-2b",
            Self::Helium1Preview => "helium-1-preview-2b",
        }
    }

    /// The shapes, from the models' config.json.
    #[must_use]
    pub fn config(self) -> ModelConfig {
        let helium_1 = ModelConfig {
            architecture: "llama".into(),
            rope_pairs: RopePairs::Adjacent,
            hidden_size: 2048,
            intermediate_size: 8192,
            n_layers: 28,
            n_heads: 16,
            n_kv_heads: 8,
            head_dim: 128,
            vocab_size: 64_000,
            context_length: 4096,
            rope_theta: 20_000.0,
            norm_eps: 1e-8,
            tie_word_embeddings: false,
            bos_token_id: Some(1),
            eos_token_ids: vec![2],
        };
        match self {
            Self::Helium1 => helium_1,
            Self::Helium1Preview => ModelConfig {
                hidden_size: 2560,
                intermediate_size: 7040,
                n_layers: 24,
                n_heads: 20,
                n_kv_heads: 20,
                vocab_size: 48_000,
                rope_theta: 100_000.0,
                ..helium_1
            },
        }
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::InvalidArgument(format!("{name:?} is no preset; expected one of {names}"))
        })
    }
}

/// Random weights: the same for the same seed.
#[derive(Debug)]
pub struct Synth {
    config: ModelConfig,
    metadata: Metadata,
    seed: u64,
}

impl Synth {
    /// Weights for a model of these shapes, with a vocabulary of invented words.
    #[must_use]
    pub fn new(name: &str, config: ModelConfig, seed: u64) -> Self {
        let mut metadata = described(&config);
        metadata.insert("general.name", Value::Str(format!("{name}, random weights")));
        vocabulary(&config, &mut metadata);
        Self { config, metadata, seed }
    }

    /// The standard deviation that keeps activations near 1: of a sum of as many products as a row has weights, and
    /// for what is added to the residual stream, of as many sums as there are.
    fn deviation(&self, id: WeightId) -> f64 {
        let cols = self.config.shape(id).last().copied().unwrap_or(1) as f64;
        match id {
            WeightId::TokenEmbedding => 1.0,
            WeightId::Layer(_, LayerWeight::O | LayerWeight::Down) => {
                1.0 / (cols * 2.0 * self.config.n_layers as f64).sqrt()
            }
            _ => 1.0 / cols.sqrt(),
        }
    }
}

impl Source for Synth {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn dtype(&self, _: WeightId) -> Option<Dtype> {
        None
    }

    fn bytes(&self, id: WeightId, _: Range<u64>) -> Result<Vec<u8>> {
        Err(Error::Internal(format!("the random weight {id} is not stored anywhere")))
    }

    fn values(&self, id: WeightId, rows: Range<u64>) -> Result<Vec<f32>> {
        let shape = self.config.shape(id);
        let (cols, is_norm) = (shape.last().copied().unwrap_or(1), shape.len() < 2);
        let n = ((rows.end - rows.start) * cols) as usize;
        if is_norm {
            return Ok(vec![1.0; n]);
        }
        let index = self.config.required().iter().position(|other| *other == id).unwrap_or(0) as u64;
        let deviation = self.deviation(id);
        let mut values = Vec::with_capacity(n);
        for row in rows {
            // By row, so that the runs that threads take make no difference.
            let first = self.seed.wrapping_add(index << 48).wrapping_add(row << 24);
            values.extend((0..cols).map(|col| (normal(mixed(first + col)) * deviation) as f32));
        }
        Ok(values)
    }
}

/// Bits that look random, as `SplitMix64` makes them. Source: <https://prng.di.unimi.it/splitmix64.c>.
fn mixed(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Nearly normal, of variance 1: a sum of four uniform numbers.
fn normal(bits: u64) -> f64 {
    let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xffff).sum();
    (sum as f64 / 65536.0 - 2.0) * 3.0_f64.sqrt()
}

/// A Unigram vocabulary of special pieces, bytes, letters and invented words.
fn vocabulary(config: &ModelConfig, metadata: &mut Metadata) {
    const SPECIAL: [(&str, i32); 3] = [("<unk>", 2), ("<s>", 3), ("</s>", 3)];
    const ONSETS: [&str; 16] = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "st", "tr"];
    const VOWELS: [&str; 8] = ["a", "e", "i", "o", "u", "ai", "ou", "ie"];
    let mut pieces: Vec<(String, i32)> = SPECIAL.map(|(piece, kind)| (piece.to_owned(), kind)).into();
    pieces.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 6)));
    pieces.extend((' '..='~').filter(|letter| *letter != ' ').map(|letter| (letter.to_string(), 1)));
    pieces.push(("\u{2581}".into(), 1));
    let syllable = |n: usize| format!("{}{}", ONSETS[n % 16], VOWELS[n / 16 % 8]);
    // Words of three syllables, numbered in base 128; all differ.
    pieces.extend(
        (0..)
            .map(|n| (format!("\u{2581}{}{}{}", syllable(n), syllable(n / 128), syllable(n / 16384)), 1))
            .take(config.vocab_size.saturating_sub(pieces.len())),
    );
    pieces.truncate(config.vocab_size);
    let (tokens, types): (Vec<String>, Vec<i32>) = pieces.into_iter().unzip();
    let scores = (0..tokens.len()).map(|rank| -((rank + 2) as f32).ln()).collect();
    metadata.insert("tokenizer.ggml.model", Value::Str("llama".into()));
    metadata.insert("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens)));
    metadata.insert("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    metadata.insert("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    for (key, id) in [("unknown", 0), ("bos", 1), ("eos", 2)] {
        metadata.insert(format!("tokenizer.ggml.{key}_token_id"), Value::Uint(id));
    }
    metadata.insert("tokenizer.ggml.add_bos_token", Value::Bool(true));
}
