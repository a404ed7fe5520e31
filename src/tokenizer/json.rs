//! `tokenizer.json`: its bytes enter, the parts of a [`Tokenizer`](super::Tokenizer) leave.
//!
//! The file is taken apart here rather than given whole to the `tokenizers` crate, for two reasons. The
//! crate panics on some malformed files (a decoder cut short, a merge shorter than the subword prefix,
//! a template naming a token that it does not define), and a panic ends a WebAssembly module: so only
//! parts that are known to be sound reach it. And decoder and post-processor are this crate's own.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{self, NormalizerWrapper, Precompiled, Replace};
use tokenizers::pre_tokenizers::{self, PreTokenizerWrapper};
use tokenizers::{AddedToken, Decoder};

use super::decode::{Alphabet, Lead, Spelling, VISIBLE_SPACE};
use super::model::{Pipeline, SubwordModel};
use super::unigram::{Pieces, Unigram};
use super::{Inner, one_line};
use crate::error::{Error, Result};

/// The file's parts, in its own names; those left out (truncation, padding) are not applied.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    /// As it is written: it is nearly all of the file, and a tree of it would be much larger.
    #[serde(borrow)]
    model: &'a RawValue,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

/// What is wrong with a part of the file.
enum Problem {
    Corrupt(String),
    Unsupported(String),
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self::Corrupt(text)
    }
}

type Part<T> = Result<T, Problem>;

/// Reads the file up to the checks that both formats share.
pub(super) fn read(file: &str, bytes: &[u8]) -> Result<Inner> {
    let parts: Parts = serde_json::from_slice(bytes).map_err(|error| {
        let hint = if error.is_data() {
            "it is not a tokenizer.json"
        } else {
            "check that the download is complete and is the right file"
        };
        Error::Corrupt(format!("{file} is not a valid tokenizer.json: {}; {hint}", one_line(&error)))
    })?;
    build(file, parts).map_err(|problem| match problem {
        Problem::Corrupt(text) => Error::Corrupt(format!("{file}: {text}")),
        Problem::Unsupported(text) => Error::UnsupportedModel(format!("{file}: {text}")),
    })
}

fn build(file: &str, parts: Parts<'_>) -> Part<Inner> {
    let spelling = parts.decoder.as_ref().map_or(Ok(spaced()), decoder)?;
    let model = model(parts.model)?;
    let kind = match &model {
        SubwordModel::Unigram(_) => "unigram",
        SubwordModel::Bpe(_) if spelling.alphabet == Alphabet::ByteLevel => "byte-level-bpe",
        SubwordModel::Bpe(_) => "bpe",
    };
    let mut model = Pipeline::new(model);
    model.with_normalizer(parts.normalizer.map(normalizer).transpose()?);
    model.with_pre_tokenizer(parts.pre_tokenizer.map(pre_tokenizer).transpose()?);
    add_tokens(&mut model, parts.added_tokens)?;
    let around = parts.post_processor.as_ref().map_or(Ok(Around::default()), post_processor)?;
    Ok(Inner {
        file: file.to_owned(),
        kind,
        model,
        spelling,
        bos_id: around.prefix.first().copied(),
        prefix: around.prefix,
        suffix: around.suffix,
        eos_ids: Vec::new(),
        vocab_size: 0,
    })
}

/// What tells the models apart.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type")]
    kind: Option<Value>,
    #[serde(borrow)]
    vocab: Option<&'a RawValue>,
}

/// The Unigram model in the file's names.
#[derive(Deserialize)]
struct UnigramParts {
    vocab: Pieces,
    unk_id: Option<usize>,
    #[serde(default)]
    byte_fallback: bool,
}

/// The model. What it needs beyond the crate's own checks is checked before.
fn model(raw: &RawValue) -> Part<SubwordModel> {
    let raw = raw.get();
    // Structs can be read from lists, too.
    if !raw.starts_with('{') {
        return Err("the model is not an object".to_owned().into());
    }
    let parts: Kind = serde_json::from_str(raw).map_err(|error| unreadable("model", &error))?;
    let kind = match &parts.kind {
        // Files from before the field was introduced.
        None if parts.vocab.is_some_and(|vocab| vocab.get().starts_with('[')) => "Unigram",
        None => "BPE",
        Some(kind) => kind.as_str().ok_or_else(|| "the model does not say its type".to_owned())?,
    };
    if kind == "Unigram" {
        let parts: UnigramParts = serde_json::from_str(raw).map_err(|error| unreadable("model", &error))?;
        let model = Unigram::new(parts.vocab, parts.unk_id, parts.byte_fallback);
        return Ok(model.map_err(|problem| format!("the model cannot be read: {problem}"))?.into());
    }
    if kind != "BPE" {
        return Err(unsupported("model", kind, &["BPE", "Unigram"]));
    }
    let mut value: Value = serde_json::from_str(raw).map_err(|error| unreadable("model", &error))?;
    // The crate's model expects it to be used up by whoever chose among them.
    value.as_object_mut().and_then(|model| model.remove("type"));
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if value.get(key).is_some_and(|affix| !affix.is_null() && affix != "") {
            return Err(Problem::Unsupported(format!("the BPE model has a {key}, which is not supported")));
        }
    }
    if let Some(dropout) = value.get_mut("dropout") {
        *dropout = Value::Null;
    }
    Ok(parse::<BPE>("model", value)?.into())
}

fn normalizer(value: Value) -> Part<NormalizerWrapper> {
    const KNOWN: &[&str] = &[
        "Sequence",
        "Prepend",
        "Replace",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Lowercase",
        "Strip",
        "StripAccents",
        "Nmt",
        "Precompiled",
    ];
    Ok(match kind(&value, "normalizer")? {
        "Sequence" => {
            let steps = steps(value, "normalizers")?.into_iter().map(normalizer);
            normalizers::Sequence::new(steps.collect::<Part<_>>()?).into()
        }
        // Apart from the others, since the crate panics on a bad table inside the wrapper.
        "Precompiled" => parse::<Precompiled>("normalizer", value)?.into(),
        "Replace" => {
            check_replace(&value)?;
            parse("normalizer", value)?
        }
        kind if KNOWN.contains(&kind) => parse("normalizer", value)?,
        kind => return Err(unsupported("normalizer", kind, KNOWN)),
    })
}

/// Refuses a replacement of nothing at the beginning of a text by something: the crate loses count of
/// the bytes then, and panics in the next step.
fn check_replace(value: &Value) -> Part<()> {
    const MARK: char = '\u{fffe}';
    let mut probe: Value = value.clone();
    probe["content"] = MARK.to_string().into();
    // As a decoder, the same pattern keeps no count.
    let probe: Replace = parse("normalizer", probe)?;
    let texts = (' '..='~').chain(['\n', '\t', '\u{e9}', '\u{301}', '\u{2581}', '\u{4e2d}', '\u{1f980}']);
    let replaced = probe.decode_chain(texts.clone().map(String::from).collect()).unwrap_or_default();
    let inserts =
        |(text, replaced): (char, String)| replaced.strip_prefix(MARK).is_some_and(|rest| rest.starts_with(text));
    if texts.zip(replaced).any(inserts) {
        return Err(Problem::Unsupported(
            "the normalizer replaces nothing by something, which is not supported".to_owned(),
        ));
    }
    Ok(())
}

fn pre_tokenizer(value: Value) -> Part<PreTokenizerWrapper> {
    const KNOWN: &[&str] =
        &["Sequence", "ByteLevel", "Split", "Digits", "Metaspace", "Punctuation", "Whitespace", "WhitespaceSplit"];
    Ok(match kind(&value, "pre_tokenizer")? {
        "Sequence" => {
            let steps = steps(value, "pretokenizers")?.into_iter().map(pre_tokenizer);
            pre_tokenizers::sequence::Sequence::new(steps.collect::<Part<_>>()?).into()
        }
        kind if KNOWN.contains(&kind) => parse("pre_tokenizer", value)?,
        kind => return Err(unsupported("pre_tokenizer", kind, KNOWN)),
    })
}

/// Adds the tokens and makes sure that they get the ids that the file gives them.
fn add_tokens(model: &mut Pipeline, mut added: Vec<Added>) -> Part<()> {
    added.sort_by_key(|added| added.id);
    let tokens: Vec<AddedToken> = added.iter().map(|added| added.token.clone()).collect();
    // The crate counts on from the highest id, and would overflow.
    if model.get_model().max_id().max(added.last().map(|added| added.id)) >= Some(super::MAX_VOCAB) {
        return Err(Problem::Corrupt(format!("a token has an id above {}", super::MAX_VOCAB - 1)));
    }
    model.add_tokens(&tokens);
    for Added { id, token } in &added {
        let content = &token.content;
        match model.token_to_id(content) {
            Some(given) if given == *id => {}
            given => {
                let given = given.map_or("none".to_owned(), |given| given.to_string());
                let content = one_line(&format!("{content:?}"));
                return Err(
                    format!("the added token {content} has the id {id}, but the vocabulary gives it {given}").into()
                );
            }
        }
    }
    Ok(())
}

/// Ids around every text.
#[derive(Default)]
struct Around {
    prefix: Vec<u32>,
    suffix: Vec<u32>,
}

/// What the post-processor puts around a single text. Offsets, its other work, are not used here.
fn post_processor(value: &Value) -> Part<Around> {
    const KNOWN: &[&str] = &["Sequence", "ByteLevel", "TemplateProcessing", "BertProcessing", "RobertaProcessing"];
    match kind(value, "post_processor")? {
        "ByteLevel" => Ok(Around::default()),
        "TemplateProcessing" => template(value),
        "BertProcessing" | "RobertaProcessing" => {
            let id = |key: &str| token_id(&value[key][1]).map(|id| vec![id]);
            Ok(Around { prefix: id("cls")?, suffix: id("sep")? })
        }
        "Sequence" => list(value, "processors")?.iter().try_fold(Around::default(), |inner, step| {
            let outer = post_processor(step)?;
            let prefix = [outer.prefix, inner.prefix].concat();
            Ok(Around { prefix, suffix: [inner.suffix, outer.suffix].concat() })
        }),
        kind => Err(unsupported("post_processor", kind, KNOWN)),
    }
}

/// A template: special tokens before and after the one sequence `A`.
fn template(value: &Value) -> Part<Around> {
    let mut around = Around::default();
    let mut seen = false;
    for step in list(value, "single")? {
        if let Some(special) = step.get("SpecialToken") {
            let name = special["id"].as_str().unwrap_or_default();
            let Some(ids) = value["special_tokens"][name]["ids"].as_array() else {
                let name = one_line(&format!("{name:?}"));
                return Err(format!("the post_processor's template names {name} but does not define its ids").into());
            };
            let target = if seen { &mut around.suffix } else { &mut around.prefix };
            target.extend(ids.iter().map(token_id).collect::<Part<Vec<u32>>>()?);
        } else if step["Sequence"]["id"] == "A" && !seen {
            seen = true;
        } else {
            return Err("the post_processor's template is not special tokens around one sequence \"A\""
                .to_owned()
                .into());
        }
    }
    if !seen {
        return Err("the post_processor's template leaves out the text".to_owned().into());
    }
    Ok(around)
}

fn token_id(value: &Value) -> Part<u32> {
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| Problem::Corrupt("the post_processor has a token without an id".to_owned()))
}

/// The rule for a file without a decoder: pieces with spaces between them.
fn spaced() -> Spelling {
    Spelling { alphabet: Alphabet::Plain, replace: Vec::new(), lead: Lead::Strip(0), spaced: true }
}

/// The decoder's steps, which must come to: spell each piece, join, strip the beginning.
fn decoder(value: &Value) -> Part<Spelling> {
    let mut spelling = Spelling { spaced: false, ..spaced() };
    let mut is_joined = false;
    decoder_step(value, &mut spelling, &mut is_joined)?;
    Ok(spelling)
}

fn decoder_step(value: &Value, spelling: &mut Spelling, is_joined: &mut bool) -> Part<()> {
    const KNOWN: &[&str] = &["Sequence", "ByteLevel", "Metaspace", "Replace", "ByteFallback", "Fuse", "Strip"];
    let refuse = |what: &str| Err(Problem::Unsupported(format!("the decoder {what}, which is not supported")));
    match kind(value, "decoder")? {
        "Sequence" => {
            for step in list(value, "decoders")? {
                decoder_step(step, spelling, is_joined)?;
            }
        }
        "ByteLevel" if spelling.alphabet == Alphabet::Plain && !*is_joined && spelling.replace.is_empty() => {
            (spelling.alphabet, *is_joined) = (Alphabet::ByteLevel, true);
        }
        "ByteFallback" if spelling.alphabet == Alphabet::Plain && !*is_joined => {
            spelling.alphabet = Alphabet::ByteFallback;
        }
        "Fuse" => *is_joined = true,
        "Replace" => match (value["pattern"]["String"].as_str(), value["content"].as_str()) {
            // Of one character, it is the same before and after joining.
            (Some(pattern), Some(content))
                if pattern.chars().count() == 1 && spelling.alphabet != Alphabet::ByteLevel =>
            {
                spelling.replace.push((pattern.to_owned(), content.to_owned()));
            }
            _ => return refuse("replaces more than single characters"),
        },
        "Metaspace" if !*is_joined && spelling.alphabet != Alphabet::ByteLevel => {
            if value["replacement"].as_str() != Some(VISIBLE_SPACE.encode_utf8(&mut [0; 4])) {
                return refuse("has a Metaspace with another replacement than U+2581");
            }
            if value["prepend_scheme"] != "never" && value["add_prefix_space"] != false {
                spelling.lead = Lead::BareFirst;
            }
            spelling.replace.push((VISIBLE_SPACE.to_string(), " ".to_owned()));
        }
        "Strip" if *is_joined && spelling.lead == Lead::Strip(0) => {
            let start = value["start"].as_u64().and_then(|start| usize::try_from(start).ok());
            match start {
                Some(start) if value["content"] == " " && value["stop"] == 0 => spelling.lead = Lead::Strip(start),
                _ => return refuse("strips more than leading spaces"),
            }
        }
        kind if KNOWN.contains(&kind) => return refuse(&format!("has a {kind} in an unusual place")),
        kind => return Err(unsupported("decoder", kind, KNOWN)),
    }
    Ok(())
}

/// The `type` of a part.
fn kind<'a>(value: &'a Value, part: &str) -> Part<&'a str> {
    value["type"].as_str().ok_or_else(|| Problem::Corrupt(format!("the {part} does not say its type")))
}

fn unsupported(part: &str, kind: &str, known: &[&str]) -> Problem {
    let kind = one_line(&format!("{kind:?}"));
    Problem::Unsupported(format!("the {part} is of type {kind}; supported are {}", known.join(", ")))
}

fn list<'a>(value: &'a Value, key: &str) -> Part<&'a [Value]> {
    let items = value[key].as_array().map(Vec::as_slice);
    items.ok_or_else(|| Problem::Corrupt(format!("{key:?} should be a list")))
}

/// The list `key` of `value`, by value: a table inside may be large.
fn steps(mut value: Value, key: &str) -> Part<Vec<Value>> {
    match value.get_mut(key).map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        _ => Err(Problem::Corrupt(format!("{key:?} should be a list"))),
    }
}

/// A part as the crate reads it.
fn parse<T: serde::de::DeserializeOwned>(part: &str, value: Value) -> Part<T> {
    serde_json::from_value(value).map_err(|error| unreadable(part, &error))
}

fn unreadable(part: &str, error: &serde_json::Error) -> Problem {
    format!("the {part} cannot be read: {}", one_line(error)).into()
}
