//! A `tokenizer.json` enters, the pairs of a GGUF file that mean the same leave.
//!
//! GGUF files name rules where a `tokenizer.json` spells them out. Which names mean the same is not guessed from
//! spellings: each that is possible is tried, and the one that gives the same ids for some difficult texts is taken.

use serde_json::Value as Json;

use super::decode::byte_fallback;
use super::gguf::{BYTE, CONTROL, GgufVocab, NORMAL, PRE_TOKENIZERS, UNKNOWN, USER_DEFINED};
use super::{Tokenizer, one_line};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::format::gguf::{Array, Metadata, Value};

/// `tokenizer.ggml.token_type` of a row of the embedding without a token.
const UNUSED: i32 = 5;

/// What the rules of vocabularies differ in.
const PROBES: [&str; 6] = [
    "Hello world, it's 2025-04-30: I'll pay 1,234.50 € (they'd've said 100000)!\n\nNew paragraph.\r\n\tTabs  and   spaces ",
    " leading space\n line\n\n\n  indented = {a: [1, 22, 333, 4444]} // №5",
    "Příliš žluťoučký kůň; Ωμέγα, ΆΈΉ; Ђорђе; ãõñß; don’t «quote» — dash… o\u{301}",
    "漢字かな交じり文、한국어 텍스트。العربية ไทย",
    "🦀🇪🇺 👩‍👩‍👧 \u{200b}\u{a0}\u{ad}z\u{0301}",
    "CamelCaseHTTPServer_v2 @user #tag http://example.org/?q=1&r=%20",
];

/// Puts the vocabulary of the tokenizer.json `bytes` into the pairs of a file of the model `config`, in place of any
/// that is there.
///
/// # Errors
///
/// [`Error::UnsupportedModel`] where no GGUF vocabulary means the same, and as [`Tokenizer::from_json`].
pub fn export(file: &str, bytes: &[u8], config: &ModelConfig, metadata: &mut Metadata) -> Result<()> {
    let tokenizer = Tokenizer::from_json(file, bytes)?;
    let json: Json = serde_json::from_slice(bytes)
        .map_err(|error| Error::Corrupt(format!("{file} is not a valid tokenizer.json: {}", one_line(&error))))?;
    let common = common(file, &json, &tokenizer, config)?;
    let expected: Vec<_> = PROBES.iter().map(|text| tokenizer.encode(text)).collect::<Result<_>>()?;
    for candidate in candidates(tokenizer.kind()) {
        let pairs = candidate.apply(&common);
        let Ok(Some(vocab)) = GgufVocab::from_metadata(file, &pairs) else { continue };
        let Ok(same) = Tokenizer::from_gguf(vocab) else { continue };
        if PROBES.iter().zip(&expected).all(|(text, ids)| same.encode(text).is_ok_and(|found| found == *ids)) {
            // Nothing of another vocabulary that the file had may stay.
            metadata.retain(|key| !key.starts_with("tokenizer."));
            for (key, value) in pairs.iter() {
                metadata.insert(key, value.clone());
            }
            return Ok(());
        }
    }
    Err(Error::UnsupportedModel(format!(
        "{file}: no vocabulary that a GGUF file can describe splits text as this {} tokenizer does",
        tokenizer.kind()
    )))
}

/// A way to fill in what a GGUF file names.
enum Candidate {
    ByteLevel { pre: &'static str },
    SentencePiece { adds_space: bool, lines: bool },
}

fn candidates(kind: &str) -> Vec<Candidate> {
    if kind == "byte-level-bpe" {
        return PRE_TOKENIZERS.iter().map(|pre| Candidate::ByteLevel { pre: pre.name }).collect();
    }
    let both = [true, false];
    both.into_iter().flat_map(|adds_space| both.map(|lines| Candidate::SentencePiece { adds_space, lines })).collect()
}

impl Candidate {
    fn apply(&self, common: &Metadata) -> Metadata {
        let mut pairs = common.clone();
        match self {
            Self::ByteLevel { pre } => pairs.insert("tokenizer.ggml.pre", Value::Str((*pre).into())),
            Self::SentencePiece { adds_space, lines } => {
                pairs.insert("tokenizer.ggml.add_space_prefix", Value::Bool(*adds_space));
                if !lines {
                    return pairs;
                }
                // Text is split at line breaks, so that every line begins anew.
                let tokens = pairs.str_array("tokenizer.ggml.tokens").ok().flatten().unwrap_or_default();
                let newline = tokens.iter().position(|token| token == "\n");
                let types = pairs.i32_array("tokenizer.ggml.token_type").ok().flatten().unwrap_or_default();
                let mut types = types.into_owned();
                if let Some(kind) = newline.and_then(|id| types.get_mut(id)) {
                    *kind = USER_DEFINED;
                }
                pairs.insert("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
            }
        }
        pairs
    }
}

/// What does not depend on the candidate.
fn common(file: &str, json: &Json, tokenizer: &Tokenizer, config: &ModelConfig) -> Result<Metadata> {
    let (n_tokens, n_rows) = (tokenizer.vocab_size(), config.vocab_size);
    if n_tokens > n_rows {
        return Err(Error::UnsupportedModel(format!("{file} has {n_tokens} tokens, but the model {n_rows}")));
    }
    // Rows of the embedding that no token has.
    let name = |id: usize| tokenizer.piece(id as u32).unwrap_or_else(|| format!("[UNUSED{id}]"));
    let tokens: Vec<String> = (0..n_rows).map(name).collect();
    let is_byte_level = tokenizer.kind() == "byte-level-bpe";
    let mut types: Vec<i32> = (0..n_rows)
        .map(|id| match tokenizer.piece(id as u32) {
            None => UNUSED,
            Some(piece) if !is_byte_level && byte_fallback(&piece).is_some() => BYTE,
            Some(_) => NORMAL,
        })
        .collect();
    let mut set = |id: Option<u64>, kind: i32| {
        if let Some(of) = id.and_then(|id| types.get_mut(id as usize)) {
            *of = kind;
        }
    };
    let model = &json["model"];
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        set(added["id"].as_u64(), if added["special"] == true { CONTROL } else { USER_DEFINED });
    }
    let unknown = model["unk_id"]
        .as_u64()
        .or_else(|| model["unk_token"].as_str().and_then(|piece| tokenizer.token_to_id(piece)).map(u64::from));
    if !is_byte_level {
        set(unknown, UNKNOWN);
    }

    let mut pairs = Metadata::empty(file);
    let mut insert = |key: &str, value: Value| pairs.insert(format!("tokenizer.ggml.{key}"), value);
    insert("model", Value::Str(if is_byte_level { "gpt2" } else { "llama" }.into()));
    if tokenizer.kind() == "unigram" {
        let pieces = model["vocab"].as_array().map(Vec::as_slice).unwrap_or_default();
        let score = |id: usize| pieces.get(id).and_then(|piece| piece[1].as_f64()).unwrap_or(0.0) as f32;
        insert("scores", Value::Array(Array::F32((0..n_rows).map(score).collect())));
    } else {
        let merges = merges(model);
        if !is_byte_level {
            // The earlier a piece is merged, the better; what is never merged comes last.
            let mut scores = vec![-(merges.len() as f32); n_rows];
            for (rank, merge) in merges.iter().enumerate().rev() {
                let piece = merge.replacen(' ', "", 1);
                if let Some(score) = tokenizer.token_to_id(&piece).and_then(|id| scores.get_mut(id as usize)) {
                    *score = -(rank as f32);
                }
            }
            insert("scores", Value::Array(Array::F32(scores)));
        }
        insert("merges", Value::Array(Array::Str(merges)));
    }
    insert("tokens", Value::Array(Array::Str(tokens)));
    insert("token_type", Value::Array(Array::I32(types)));
    if let Some(unknown) = unknown {
        insert("unknown_token_id", Value::Uint(unknown));
    }
    let adds_bos = tokenizer.bos_id().is_some();
    if let Some(bos) = tokenizer.bos_id().or(config.bos_token_id) {
        insert("bos_token_id", Value::Uint(bos.into()));
    }
    insert("add_bos_token", Value::Bool(adds_bos));
    insert("add_eos_token", Value::Bool(false));
    for (key, id) in ["eos_token_id", "eot_token_id"].into_iter().zip(&config.eos_token_ids) {
        insert(key, Value::Uint(u64::from(*id)));
    }
    Ok(pairs)
}

/// The merges as lines of two pieces, whichever way the file writes them.
fn merges(model: &Json) -> Vec<String> {
    let pair = |merge: &Json| match merge {
        Json::Array(pair) => pair.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(" "),
        merge => merge.as_str().unwrap_or_default().to_owned(),
    };
    model["merges"].as_array().into_iter().flatten().map(pair).collect()
}
