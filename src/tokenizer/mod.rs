//! Text to ids and back: a `tokenizer.json` or a GGUF file's vocabulary enters, a [`Tokenizer`] leaves.
//!
//! Encoding is the `tokenizers` crate's, whichever file the vocabulary came from, but for the Unigram
//! model, which takes little memory here; decoding is this module's own ([`decode`](TokenStream)), so that
//! streaming gives whole characters and costs the same for every token. This module knows no GPU, no web
//! and no file system.
//!
//! # What a text becomes
//!
//! - The file's BOS comes first where the file asks for it (and its EOS last, where it asks for that).
//! - A special token written out in the text, such as `</s>`, becomes that token, as the reference
//!   tokenizers do by default. Other added tokens likewise. A text from an untrusted source can so end
//!   or begin a document; remove the spellings first where that matters.
//! - Truncation and padding that a `tokenizer.json` asks for are not applied, nor is BPE dropout: a
//!   prompt is encoded whole, and always alike.

mod decode;
#[cfg(not(target_arch = "wasm32"))]
mod export;
mod gguf;
mod json;
mod model;
mod unigram;

use std::sync::Arc;

pub use decode::TokenStream;
#[cfg(not(target_arch = "wasm32"))]
pub use export::export;
pub use gguf::GgufVocab;

use crate::error::{Error, Result};

/// The most pieces that a vocabulary may have. Real ones have up to 262,144.
const MAX_VOCAB: u32 = 1 << 24;

/// A vocabulary with the rules that turn text into its ids and back.
///
/// Clones share the vocabulary and cost nothing.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

/// What the clones of a tokenizer and its streams share.
#[derive(Debug)]
struct Inner {
    /// The file's name, for messages.
    file: String,
    kind: &'static str,
    /// Without a decoder and a post-processor, which are the fields below.
    model: model::Pipeline,
    spelling: decode::Spelling,
    /// Ids before every text: BOS, or nothing.
    prefix: Vec<u32>,
    /// Ids after every text: usually nothing.
    suffix: Vec<u32>,
    bos_id: Option<u32>,
    eos_ids: Vec<u32>,
    vocab_size: usize,
}

impl Inner {
    /// The spelling of `id` in the vocabulary.
    fn piece(&self, id: u32) -> Result<String> {
        self.model.id_to_token(id).ok_or_else(|| {
            let (file, size) = (&self.file, self.vocab_size);
            Error::InvalidArgument(format!("token id {id} is not in the vocabulary of {file}, which has {size} tokens"))
        })
    }

    /// Whether decoding leaves `piece` out.
    fn is_special(&self, piece: &str) -> bool {
        self.model.get_added_vocabulary().is_special_token(piece)
    }

    fn is_added(&self, id: u32) -> bool {
        self.model.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id)
    }

    /// Counts the vocabulary and checks the ids of BOS and EOS against it.
    fn checked(mut self) -> Result<Tokenizer> {
        let corrupt = |problem: String| Err(Error::Corrupt(format!("{}: {problem}", self.file)));
        let added = self.model.get_added_vocabulary().get_vocab().values().copied().max();
        let Some(last) = self.model.get_model().max_id().max(added) else {
            return corrupt("the vocabulary is empty".to_owned());
        };
        if last >= MAX_VOCAB {
            return corrupt(format!("the vocabulary has the id {last}; at most {} are read", MAX_VOCAB - 1));
        }
        let used = self.prefix.iter().chain(&self.suffix).chain(&self.bos_id).chain(&self.eos_ids);
        if let Some(id) = used.copied().find(|id| self.model.id_to_token(*id).is_none()) {
            let size = last + 1;
            return corrupt(format!("the special token id {id} is not in the vocabulary of {size} tokens"));
        }
        self.vocab_size = last as usize + 1;
        Ok(Tokenizer { inner: Arc::new(self) })
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; `file` names it in messages.
    ///
    /// BPE and Unigram models are read, with the parts that language models use around them.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for what is no JSON, is truncated or contradicts itself, and
    /// [`Error::UnsupportedModel`] for a kind of tokenizer, or a part of one, that is not read.
    pub fn from_json(file: &str, bytes: &[u8]) -> Result<Self> {
        json::read(file, bytes)?.checked()
    }

    /// Builds the tokenizer of a GGUF file's vocabulary.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for a vocabulary that contradicts itself.
    pub fn from_gguf(vocab: GgufVocab<'_>) -> Result<Self> {
        vocab.build()?.checked()
    }

    /// The ids of `text`, with BOS as the file says. Special tokens written out in `text` become those
    /// tokens: see the [module](self).
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the vocabulary can spell neither a character of `text` nor "unknown".
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let Inner { file, model, prefix, suffix, .. } = &*self.inner;
        let encoding = model
            .encode_fast(text, false)
            .map_err(|error| Error::Corrupt(format!("{file} cannot encode the text: {}", one_line(&error))))?;
        Ok([prefix, encoding.get_ids(), suffix].concat())
    }

    /// The text of `ids`, without special tokens. Bytes that form no character become U+FFFD.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an id that the vocabulary does not have.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut stream = TokenStream::new(Arc::clone(&self.inner));
        let mut text = String::new();
        for id in ids {
            text.push_str(&stream.push(*id)?);
        }
        text.push_str(&stream.finish());
        Ok(text)
    }

    /// A streaming decoder for what follows `prompt_ids`. Whether the continuation keeps its leading
    /// space, and whether its first bytes complete a character, depends on them. Ids that the
    /// vocabulary does not have are passed over: they spell nothing.
    #[must_use]
    pub fn stream_after(&self, prompt_ids: &[u32]) -> TokenStream {
        let mut stream = TokenStream::new(Arc::clone(&self.inner));
        for id in prompt_ids {
            let _passed_over = stream.push(*id);
        }
        stream.begin();
        stream
    }

    /// The vocabulary's own spelling of `id`, such as `"▁the"` or `"<0x0A>"`.
    #[must_use]
    pub fn piece(&self, id: u32) -> Option<String> {
        self.inner.model.id_to_token(id)
    }

    /// The id of a piece in the vocabulary's own spelling.
    #[must_use]
    pub fn token_to_id(&self, piece: &str) -> Option<u32> {
        self.inner.model.token_to_id(piece)
    }

    /// The number of tokens, added ones included: the highest id plus one.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.vocab_size
    }

    /// Checks that it can be that of a model with so many rows of embeddings: each token needs one. Models have some more
    /// where they round the number up; half of them without a token is no rounding.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] where it is another model's.
    pub fn check_fits(&self, n_rows: usize) -> Result<()> {
        let n_tokens = self.vocab_size();
        if n_tokens <= n_rows && n_rows <= 2 * n_tokens {
            return Ok(());
        }
        Err(Error::InvalidArgument(format!(
            "the tokenizer has {n_tokens} tokens, but the model {n_rows}: it is another model's; give this one's"
        )))
    }

    /// `"unigram"`, `"bpe"` (`SentencePiece`'s) or `"byte-level-bpe"`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.inner.kind
    }

    /// The token that begins a text: what a GGUF file names so, whether or not it is added to every
    /// text, or what a `tokenizer.json` puts before every text.
    #[must_use]
    pub fn bos_id(&self) -> Option<u32> {
        self.inner.bos_id
    }

    /// The tokens that end a text, as a GGUF file names them. A `tokenizer.json` names none: there
    /// `config.json` does.
    #[must_use]
    pub fn eos_ids(&self) -> &[u32] {
        &self.inner.eos_ids
    }
}

/// A message of the `tokenizers` crate, which may quote the file, as one line of reasonable length.
fn one_line(message: &dyn std::fmt::Display) -> String {
    const MAX_CHARS: usize = 200;
    let message = message.to_string();
    let mut line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CHARS).collect();
    if message.chars().nth(MAX_CHARS).is_some() {
        line.push('…');
    }
    line
}
