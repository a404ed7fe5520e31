//! A GGUF file's vocabulary: its metadata enter, the parts of a [`Tokenizer`](super::Tokenizer) leave.
//!
//! `tokenizer.ggml.model` names three families:
//!
//! - `llama`: `SentencePiece`. Two models share the name and are told apart by the scores of their normal
//!   pieces. Whole numbers are the ranks of BPE merges; other numbers are the log-probabilities of a
//!   Unigram model, and there the most probable segmentation is taken (Viterbi), which is how such a
//!   vocabulary was trained. Programs that apply BPE to it anyway get other ids.
//! - `t5`: always Unigram.
//! - `gpt2`: byte-level BPE with a list of merges, and in `tokenizer.ggml.pre` the name of the rule that
//!   splits text before them.
//!
//! In `SentencePiece` families control and user-defined pieces are found in the text first; each stretch
//! between them begins with an added space (unless `add_space_prefix` is false). So with Helium's
//! vocabulary, where "\n" is user-defined, every line does, as the checkpoint's `tokenizer.json` has it.
//! Byte pieces stand for bytes only: "<0x0A>" written out in a text is those six characters.

use std::borrow::Cow;
use std::collections::HashMap;

use tokenizers::models::bpe::{BpeBuilder, Merges, Vocab};
use tokenizers::normalizers::{NFC, NormalizerWrapper, Prepend, Replace, Sequence, replace::ReplacePattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::{PreTokenizerWrapper, sequence};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::decode::{Spelling, VISIBLE_SPACE, byte_fallback};
use super::model::{Pipeline, SubwordModel};
use super::unigram::{Pieces, Unigram};
use super::{Inner, one_line};
use crate::error::{Error, Result};
use crate::format::gguf::Metadata;

/// `tokenizer.ggml.token_type` of ordinary pieces.
pub(super) const NORMAL: i32 = 1;
/// The piece for what the vocabulary cannot spell.
pub(super) const UNKNOWN: i32 = 2;
/// BOS, EOS and the like.
pub(super) const CONTROL: i32 = 3;
/// Found in the text before all others.
pub(super) const USER_DEFINED: i32 = 4;
/// A piece `<0xXX>` for one byte.
pub(super) const BYTE: i32 = 6;

/// The longest piece that is taken apart into merges. Real ones have up to a few dozen bytes.
const MAX_PIECE_BYTES: usize = 1024;

/// How text is split before byte-level BPE, by the name that GGUF files use for it.
pub(super) const PRE_TOKENIZERS: &[Pre] = &[
    Pre { name: "gpt-2", splits: &[GPT2], nfc: false, whole_words: false, adds_bos: false },
    Pre { name: "smollm", splits: &[DIGIT, GPT2], nfc: false, whole_words: false, adds_bos: false },
    Pre { name: "llama-bpe", splits: &[LLAMA3], nfc: false, whole_words: true, adds_bos: true },
    Pre { name: "qwen2", splits: &[QWEN2], nfc: true, whole_words: false, adds_bos: false },
    Pre {
        name: "default",
        splits: &[PUNCTUATION, GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        nfc: false,
        whole_words: false,
        adds_bos: false,
    },
];

// The patterns are those of the models' own tokenizer.json; "default" is llama.cpp's rule for files that
// name none (src/llama-vocab.cpp in https://github.com/ggml-org/llama.cpp).
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";

pub(super) struct Pre {
    pub(super) name: &'static str,
    /// Patterns whose matches are split off, one after another.
    splits: &'static [&'static str],
    /// Whether the text is composed (Unicode NFC) first.
    nfc: bool,
    /// Whether a word that is a piece is taken whole, however merges would build it.
    whole_words: bool,
    /// Whether BOS is added where the file does not say.
    adds_bos: bool,
}

enum Family {
    SentencePiece { is_unigram: bool },
    ByteLevel(&'static Pre),
}

/// The vocabulary in a GGUF file's metadata, checked as far as it can be before it is built.
pub struct GgufVocab<'a> {
    file: &'a str,
    family: Family,
    tokens: Vec<Cow<'a, str>>,
    /// As long as `tokens`.
    types: Vec<i32>,
    /// As long as `tokens`; empty for byte-level BPE.
    scores: Vec<f32>,
    merges: Option<&'a [String]>,
    unknown_id: Option<u32>,
    bos_id: Option<u32>,
    eos_ids: Vec<u32>,
    /// Ids before and after every text.
    around: (Vec<u32>, Vec<u32>),
    add_space_prefix: bool,
    remove_extra_whitespaces: bool,
}

impl<'a> GgufVocab<'a> {
    /// Reads the vocabulary of the GGUF file named `file`; `None` when it has none.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for metadata that contradict themselves, and [`Error::UnsupportedModel`] for a
    /// family or a pre-tokenizer that is not known.
    pub fn from_metadata(file: &'a str, metadata: &'a Metadata) -> Result<Option<Self>> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let corrupt = |problem: String| Error::Corrupt(format!("{file}: {problem}"));
        let Some(model) = metadata.str(&key("model"))?.filter(|model| !matches!(*model, "none" | "no_vocab")) else {
            return Ok(None);
        };
        let tokens = metadata.str_array(&key("tokens"))?.unwrap_or_default();
        if tokens.is_empty() || tokens.len() > super::MAX_VOCAB as usize {
            let most = super::MAX_VOCAB;
            return Err(corrupt(format!(
                "tokenizer.ggml.tokens has {} tokens; 1 to {most} are possible",
                tokens.len()
            )));
        }
        let same_len = |name: &str, len: usize| {
            let expected = tokens.len();
            (len == expected).then_some(()).ok_or_else(|| {
                corrupt(format!("tokenizer.ggml.{name} has {len} elements but tokenizer.ggml.tokens {expected}"))
            })
        };
        let id = |name: &str| -> Result<Option<u32>> {
            let name = format!("{name}_token_id");
            let id = metadata.u32(&key(&name))?;
            match id {
                Some(id) if id as usize >= tokens.len() => {
                    let len = tokens.len();
                    Err(corrupt(format!("tokenizer.ggml.{name} is {id}, but there are {len} tokens")))
                }
                id => Ok(id),
            }
        };
        let (unknown_id, bos_id, eos_id) = (id("unknown")?, id("bos")?, id("eos")?);
        let is_byte_level = model == "gpt2";

        let types = if let Some(types) = metadata.i32_array(&key("token_type"))? {
            same_len("token_type", types.len())?;
            types.into_owned()
        } else {
            let controls = [bos_id, eos_id, id("padding")?];
            let guess = |(id, token): (u32, &String)| match token {
                _ if unknown_id == Some(id) && !is_byte_level => UNKNOWN,
                _ if controls.contains(&Some(id)) => CONTROL,
                token if !is_byte_level && byte_fallback(token).is_some() => BYTE,
                _ => NORMAL,
            };
            (0..).zip(tokens).map(guess).collect()
        };
        let merges = metadata.str_array(&key("merges"))?;
        let mut scores = Vec::new();
        let family = if is_byte_level {
            Family::ByteLevel(pre_tokenizer(file, metadata.str(&key("pre"))?.unwrap_or("default"))?)
        } else if matches!(model, "llama" | "t5") {
            let all = metadata.f32_array(&key("scores"))?;
            scores = all.ok_or_else(|| corrupt("tokenizer.ggml.scores is missing".to_owned()))?.into_owned();
            same_len("scores", scores.len())?;
            Family::SentencePiece { is_unigram: is_unigram(file, model, &scores, &types, merges)? }
        } else {
            let model = one_line(&format!("{model:?}"));
            return Err(Error::UnsupportedModel(format!(
                "{file}: tokenizer.ggml.model is {model}; supported are \"llama\", \"t5\" and \"gpt2\"; pass the \
                 model's tokenizer.json instead"
            )));
        };
        if metadata.contains(&key("precompiled_charsmap")) {
            return Err(Error::UnsupportedModel(format!(
                "{file}: tokenizer.ggml.precompiled_charsmap is not supported; pass the model's tokenizer.json instead"
            )));
        }

        let mut eos_ids: Vec<u32> = eos_id.into_iter().chain(id("eot")?).collect();
        eos_ids.dedup();
        let flag = |name: &str, absent: bool| metadata.bool(&key(name)).map(|flag| flag.unwrap_or(absent));
        // Where the file does not say, what llama.cpp does for the family.
        let bos_by_default = match &family {
            Family::SentencePiece { .. } => model == "llama",
            Family::ByteLevel(pre) => pre.adds_bos,
        };
        let around = |name: &str, id: Option<u32>, by_default: bool| {
            let added = format!("add_{name}_token");
            match (flag(&added, by_default && id.is_some())?, id) {
                (false, _) => Ok(Vec::new()),
                (true, Some(id)) => Ok(vec![id]),
                (true, None) => Err(corrupt(format!(
                    "tokenizer.ggml.{added} is true but tokenizer.ggml.{name}_token_id is missing"
                ))),
            }
        };
        let (before, after) = (around("bos", bos_id, bos_by_default)?, around("eos", eos_id, model == "t5")?);
        Ok(Some(Self {
            file,
            tokens: (0..).zip(tokens).map(|(id, token): (u32, _)| named(id, token)).collect(),
            types,
            scores,
            merges,
            unknown_id,
            bos_id,
            eos_ids,
            around: (before, after),
            add_space_prefix: flag("add_space_prefix", !is_byte_level)?,
            remove_extra_whitespaces: flag("remove_extra_whitespaces", false)?,
            family,
        }))
    }

    /// Builds the tokenizer up to the checks that both formats share.
    pub(super) fn build(self) -> Result<Inner> {
        let ids = self.ids()?;
        let (kind, model, spelling) = match &self.family {
            Family::SentencePiece { is_unigram: true } => {
                // A large table, which only said that no token is there twice.
                drop(ids);
                ("unigram", self.unigram()?, None)
            }
            Family::SentencePiece { is_unigram: false } => ("bpe", self.bpe(&ids)?, None),
            Family::ByteLevel(pre) => ("byte-level-bpe", self.byte_level(pre)?, Some(Spelling::byte_level())),
        };
        let mut model = Pipeline::new(model);
        model.with_normalizer(self.normalizer()?);
        model.with_pre_tokenizer(match self.family {
            Family::ByteLevel(pre) => Some(self.splits(pre)?),
            // The model would read the spelling of a byte piece in a text as that byte.
            Family::SentencePiece { is_unigram: true } => {
                Some(self.split("<(?=0x[0-9A-F]{2}>)", SplitDelimiterBehavior::MergedWithPrevious)?)
            }
            Family::SentencePiece { is_unigram: false } => None,
        });
        let added = self.tokens.iter().zip(&self.types).filter_map(|(token, kind)| match *kind {
            CONTROL => Some(AddedToken::from(token.as_ref(), true)),
            UNKNOWN if !matches!(self.family, Family::ByteLevel(_)) => Some(AddedToken::from(token.as_ref(), true)),
            USER_DEFINED => Some(AddedToken::from(token.as_ref(), false).normalized(false)),
            _ => None,
        });
        model.add_tokens(&added.collect::<Vec<_>>());
        Ok(Inner {
            file: self.file.to_owned(),
            kind,
            model,
            spelling: spelling.unwrap_or_else(|| Spelling::sentencepiece(self.add_space_prefix)),
            prefix: self.around.0,
            suffix: self.around.1,
            bos_id: self.bos_id,
            eos_ids: self.eos_ids,
            vocab_size: 0,
        })
    }

    fn corrupt(&self, problem: &str) -> Error {
        Error::Corrupt(format!("{}: {problem}", self.file))
    }

    /// An error of the crate that builds the model.
    fn unbuilt(&self, error: &dyn std::fmt::Display) -> Error {
        self.corrupt(&format!("the tokenizer cannot be built: {}", one_line(error)))
    }

    /// The tokens' ids, each token being there once.
    fn ids(&self) -> Result<HashMap<&str, u32>> {
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, token) in (0..).zip(&self.tokens) {
            if let Some(before) = ids.insert(token.as_ref(), id) {
                let token = one_line(&format!("{token:?}"));
                return Err(self.corrupt(&format!("tokens {before} and {id} are both {token}")));
            }
        }
        Ok(ids)
    }

    fn unigram(&self) -> Result<SubwordModel> {
        let mut pieces = Pieces::default();
        for (token, score) in self.tokens.iter().zip(&self.scores) {
            pieces.push(token, f64::from(*score)).map_err(|problem| self.corrupt(&problem))?;
        }
        let model = Unigram::new(pieces, Some(self.unknown() as usize), self.has_all_bytes());
        model.map(Into::into).map_err(|problem| self.corrupt(&problem))
    }

    fn bpe(&self, ids: &HashMap<&str, u32>) -> Result<SubwordModel> {
        let merges = match self.merges {
            Some(merges) => self.listed_merges(merges)?,
            None => self.merges_by_score(ids)?,
        };
        let unknown = self.tokens.get(self.unknown() as usize).map(|token| token.clone().into_owned());
        BpeBuilder::new()
            .vocab_and_merges(self.vocab(), merges)
            .unk_token(unknown.unwrap_or_default())
            .fuse_unk(true)
            .byte_fallback(self.has_all_bytes())
            .build()
            .map(Into::into)
            .map_err(|error| self.unbuilt(&error))
    }

    fn byte_level(&self, pre: &Pre) -> Result<SubwordModel> {
        let merges = self.merges.ok_or_else(|| self.corrupt("tokenizer.ggml.merges is missing"))?;
        BpeBuilder::new()
            .vocab_and_merges(self.vocab(), self.listed_merges(merges)?)
            .ignore_merges(pre.whole_words)
            .build()
            .map(Into::into)
            .map_err(|error| self.unbuilt(&error))
    }

    fn vocab(&self) -> Vocab {
        (0..).zip(&self.tokens).map(|(id, token)| (token.clone().into_owned(), id)).collect()
    }

    /// llama.cpp takes 0 where the file names none.
    fn unknown(&self) -> u32 {
        let typed = (0..).zip(&self.types).find(|(_, kind)| **kind == UNKNOWN).map(|(id, _)| id);
        self.unknown_id.or(typed).unwrap_or(0)
    }

    /// Whether every byte has its piece, without which falling back to bytes would lose some.
    fn has_all_bytes(&self) -> bool {
        let mut seen = [false; 256];
        for byte in self.tokens.iter().filter_map(|token| byte_fallback(token)) {
            seen[usize::from(byte)] = true;
        }
        seen.iter().all(|seen| *seen)
    }

    fn listed_merges(&self, merges: &[String]) -> Result<Merges> {
        let split = |(index, merge): (usize, &String)| match merge.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
                Ok((left.to_owned(), right.to_owned()))
            }
            _ => {
                let merge = one_line(&format!("{merge:?}"));
                Err(self.corrupt(&format!("tokenizer.ggml.merges[{index}] is {merge}; two pieces were expected")))
            }
        };
        merges.iter().enumerate().map(split).collect()
    }

    /// `SentencePiece`'s BPE as a list of merges.
    ///
    /// `SentencePiece` joins, of all neighbours whose concatenation is a piece, those with the highest
    /// score, and the leftmost of equals. So every way to cut a piece in two is a merge, ranked by the
    /// piece's score. Where two such merges of one piece compete for a neighbour between them (`ab·a·ba`
    /// for the piece `aba`), the left one must rank first: it is the one whose right half also begins the
    /// piece.
    fn merges_by_score(&self, ids: &HashMap<&str, u32>) -> Result<Merges> {
        struct Cut<'a> {
            id: usize,
            score: f32,
            halves: (&'a str, &'a str),
            yields: bool,
        }
        let is_text = |piece: &str| {
            ids.get(piece)
                .is_some_and(|id| !matches!(self.types[*id as usize], UNKNOWN | CONTROL | USER_DEFINED | BYTE))
        };
        let mut cuts = Vec::new();
        for (id, piece) in self.tokens.iter().enumerate().filter(|(_, piece)| is_text(piece)) {
            if piece.len() > MAX_PIECE_BYTES {
                let len = piece.len();
                return Err(self.corrupt(&format!("token {id} has {len} bytes; at most {MAX_PIECE_BYTES} are read")));
            }
            for (at, _) in piece.char_indices().skip(1) {
                let halves = piece.split_at(at);
                if is_text(halves.0) && is_text(halves.1) {
                    cuts.push(Cut { id, score: self.scores[id], halves, yields: !piece.starts_with(halves.1) });
                }
            }
        }
        cuts.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)).then(a.yields.cmp(&b.yields)));
        Ok(cuts.iter().map(|cut| (cut.halves.0.to_owned(), cut.halves.1.to_owned())).collect())
    }

    fn normalizer(&self) -> Result<Option<NormalizerWrapper>> {
        let replace = |pattern: ReplacePattern, by: &str| {
            Replace::new(pattern, by).map(NormalizerWrapper::from).map_err(|error| self.unbuilt(&error))
        };
        let space = VISIBLE_SPACE.to_string();
        let mut steps: Vec<NormalizerWrapper> = Vec::new();
        match self.family {
            Family::ByteLevel(pre) if pre.nfc => steps.push(NFC.into()),
            Family::ByteLevel(_) => {}
            Family::SentencePiece { .. } => {
                if self.remove_extra_whitespaces {
                    // At the end `SentencePiece` takes visible spaces for spaces.
                    steps.push(replace(ReplacePattern::Regex(format!("^ +|[ {space}]+$")), "")?);
                    steps.push(replace(ReplacePattern::Regex(" {2,}".to_owned()), " ")?);
                }
                if self.add_space_prefix {
                    steps.push(Prepend::new(space.clone()).into());
                }
                steps.push(replace(ReplacePattern::String(" ".to_owned()), &space)?);
            }
        }
        Ok((!steps.is_empty()).then(|| Sequence::new(steps).into()))
    }

    fn split(&self, pattern: &str, behavior: SplitDelimiterBehavior) -> Result<PreTokenizerWrapper> {
        let split = Split::new(SplitPattern::Regex(pattern.to_owned()), behavior, false);
        split.map(Into::into).map_err(|error| self.unbuilt(&error))
    }

    fn splits(&self, pre: &Pre) -> Result<PreTokenizerWrapper> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        if self.add_space_prefix {
            steps.push(Metaspace::new(' ', PrependScheme::Always, false).into());
        }
        for pattern in pre.splits {
            steps.push(self.split(pattern, SplitDelimiterBehavior::Isolated)?);
        }
        // Bytes become characters last: the patterns are about the text.
        steps.push(ByteLevel::new(false, false, false).into());
        Ok(sequence::Sequence::new(steps).into())
    }
}

/// Whether the scores of a `SentencePiece` vocabulary are log-probabilities.
fn is_unigram(file: &str, model: &str, scores: &[f32], types: &[i32], merges: Option<&[String]>) -> Result<bool> {
    if let Some(id) = scores.iter().position(|score| !score.is_finite()) {
        return Err(Error::Corrupt(format!("{file}: tokenizer.ggml.scores[{id}] is {}, not a number", scores[id])));
    }
    if model == "t5" {
        return Ok(true);
    }
    let normal: Vec<f32> =
        scores.iter().zip(types).filter(|(_, kind)| **kind == NORMAL).map(|(score, _)| *score).collect();
    // Some converters know no scores and write the same one everywhere.
    if merges.is_none() && normal.len() > 1 && normal.iter().all(|score| score.total_cmp(&normal[0]).is_eq()) {
        return Err(Error::UnsupportedModel(format!(
            "{file}: the scores of the vocabulary are all {}, which does not say how to tokenize; pass the model's \
             tokenizer.json instead",
            normal[0]
        )));
    }
    Ok(merges.is_none() && normal.iter().any(|score| score.fract() != 0.0))
}

fn pre_tokenizer(file: &str, name: &str) -> Result<&'static Pre> {
    PRE_TOKENIZERS.iter().find(|pre| pre.name == name).ok_or_else(|| {
        let known: Vec<String> = PRE_TOKENIZERS.iter().map(|pre| format!("{:?}", pre.name)).collect();
        let name = one_line(&format!("{name:?}"));
        let known = known.join(", ");
        Error::UnsupportedModel(format!(
            "{file}: tokenizer.ggml.pre is {name}; supported are {known}; pass the model's tokenizer.json instead"
        ))
    })
}

/// `token`, or where it is empty a name for it: some files fill gaps of the vocabulary with empty tokens.
fn named(id: u32, token: &str) -> Cow<'_, str> {
    if token.is_empty() { Cow::Owned(format!("[EMPTY_{id}]")) } else { Cow::Borrowed(token) }
}
