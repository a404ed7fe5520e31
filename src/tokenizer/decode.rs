//! Ids to text: pieces enter one by one, whole characters leave.
//!
//! Every piece spells a few bytes that do not depend on its neighbours, so a text is the
//! concatenation of those bytes, read as UTF-8, less what the file strips from its beginning. That
//! makes streaming exact and cheap: only the bytes of an unfinished character are kept. Nothing here
//! knows how text is encoded, nor which file format the rules came from.

use std::sync::Arc;

use super::Inner;
use crate::error::Result;

/// What U+2581, `SentencePiece`'s visible space, looks like.
pub(super) const VISIBLE_SPACE: char = '\u{2581}';

/// How pieces spell bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Alphabet {
    /// As the UTF-8 that they are.
    Plain,
    /// As the UTF-8 that they are, but `<0x0A>` is the byte 10.
    ByteFallback,
    /// One character a byte, in GPT-2's alphabet of 256 printable characters.
    ByteLevel,
}

/// What is taken off the beginning of a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lead {
    /// Up to this many spaces.
    Strip(usize),
    /// The visible spaces of the first piece.
    BareFirst,
}

/// The rules by which a file's pieces become text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Spelling {
    pub(super) alphabet: Alphabet,
    /// Replacements within a piece, in order; usually the visible space by a space.
    pub(super) replace: Vec<(String, String)>,
    pub(super) lead: Lead,
    /// Whether a space stands between pieces: what a file without a decoder means.
    pub(super) spaced: bool,
}

impl Spelling {
    /// The rules of `SentencePiece` vocabularies, where every text begins with an added space or none does.
    pub(super) fn sentencepiece(strips_space: bool) -> Self {
        Self {
            alphabet: Alphabet::ByteFallback,
            replace: vec![(VISIBLE_SPACE.to_string(), " ".to_owned())],
            lead: Lead::Strip(usize::from(strips_space)),
            spaced: false,
        }
    }

    /// The rules of byte-level BPE.
    pub(super) fn byte_level() -> Self {
        Self { alphabet: Alphabet::ByteLevel, replace: Vec::new(), lead: Lead::Strip(0), spaced: false }
    }

    /// The bytes of `piece`; `first` when no piece of the text came before it. An `added` token is
    /// written as itself in the file, never in the byte-level alphabet.
    fn bytes(&self, piece: &str, added: bool, first: bool) -> Vec<u8> {
        let bytes = match self.alphabet {
            Alphabet::ByteLevel if !added => piece.chars().map(byte_level).collect(),
            Alphabet::ByteFallback => byte_fallback(piece).map(|byte| vec![byte]),
            Alphabet::ByteLevel | Alphabet::Plain => None,
        };
        let mut bytes = bytes.unwrap_or_else(|| {
            let mut text = piece.to_owned();
            if first && self.lead == Lead::BareFirst {
                text = text.replace(VISIBLE_SPACE, "");
            }
            for (from, to) in &self.replace {
                text = text.replace(from, to);
            }
            text.into_bytes()
        });
        if self.spaced && !first {
            bytes.insert(0, b' ');
        }
        bytes
    }

    /// How many U+FFFD stand for an `invalid` sequence of 1 to 3 bytes. Byte fallback gives one a byte,
    /// as `SentencePiece` does; byte-level decoders one a sequence, as Unicode recommends.
    fn replacements(&self, invalid: &[u8]) -> usize {
        match self.alphabet {
            Alphabet::ByteFallback => invalid.len(),
            Alphabet::Plain | Alphabet::ByteLevel => 1,
        }
    }
}

/// The byte that `piece` names as `<0xXX>`.
pub(super) fn byte_fallback(piece: &str) -> Option<u8> {
    let hex = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = hex.len() == 2 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(hex, 16).ok()).flatten()
}

/// The byte that `char` stands for in GPT-2's alphabet, which gives printable bytes to themselves and
/// the other 68 to U+0100 and on, in order.
/// Source: `bytes_to_unicode` in <https://github.com/openai/gpt-2/blob/master/src/encoder.py>.
fn byte_level(char: char) -> Option<u8> {
    let code = u32::from(char);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// The streaming decoder of a continuation, from [`Tokenizer::stream_after`](super::Tokenizer::stream_after).
///
/// What the pushes and [`TokenStream::finish`] return, joined, is the text of prompt and continuation
/// less the text of the prompt. A character whose bytes are spread over several tokens comes whole,
/// with the last of them; a character begun by the prompt comes whole too.
#[derive(Clone, Debug)]
pub struct TokenStream {
    tokenizer: Arc<Inner>,
    /// Whether the text has had a piece yet.
    started: bool,
    /// Spaces that may still be stripped; 0 once another character came.
    strippable: usize,
    /// The beginning of a character: at most 3 bytes between calls.
    pending: Vec<u8>,
    /// How many U+FFFD the text of the prompt shows for the pending bytes.
    shown: usize,
}

impl TokenStream {
    pub(super) fn new(tokenizer: Arc<Inner>) -> Self {
        let strippable = match tokenizer.spelling.lead {
            Lead::Strip(spaces) => spaces,
            Lead::BareFirst => 0,
        };
        Self { tokenizer, started: false, strippable, pending: Vec::new(), shown: 0 }
    }

    /// Takes what was pushed so far as the prompt.
    pub(super) fn begin(&mut self) {
        if !self.pending.is_empty() {
            self.shown = self.tokenizer.spelling.replacements(&self.pending);
        }
    }

    /// Adds a token and gives the text that is now certain: empty for a special token, and while a
    /// character is unfinished.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for an id that the vocabulary does not
    /// have; the stream can go on.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let piece = self.tokenizer.piece(id)?;
        if self.tokenizer.is_special(&piece) {
            return Ok(String::new());
        }
        let bytes = self.tokenizer.spelling.bytes(&piece, self.tokenizer.is_added(id), !self.started);
        self.started = true;
        self.pending.extend(bytes);
        Ok(self.take(false))
    }

    /// Gives what was held back, U+FFFD for the bytes of a character that never ended.
    pub fn finish(&mut self) -> String {
        self.take(true)
    }

    /// The whole characters at the beginning of `pending`; with `all`, everything.
    fn take(&mut self, all: bool) -> String {
        let pending = std::mem::take(&mut self.pending);
        let mut text = String::new();
        let mut chunks = pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            if !chunk.valid().is_empty() {
                self.shown = 0;
                text.push_str(self.strip(chunk.valid()));
            }
            let invalid = chunk.invalid();
            let is_unfinished = || std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if !all && chunks.peek().is_none() && is_unfinished() {
                self.pending = invalid.to_vec();
            } else if !invalid.is_empty() {
                let count = self.tokenizer.spelling.replacements(invalid).saturating_sub(self.shown);
                text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, count));
                (self.shown, self.strippable) = (0, 0);
            }
        }
        text
    }

    /// `text` without the spaces that are still to be stripped.
    fn strip<'t>(&mut self, mut text: &'t str) -> &'t str {
        while self.strippable > 0 && !text.is_empty() {
            match text.strip_prefix(' ') {
                Some(rest) => (text, self.strippable) = (rest, self.strippable - 1),
                None => self.strippable = 0,
            }
        }
        text
    }
}
