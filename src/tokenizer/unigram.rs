//! A Unigram model in little memory: pieces with scores enter, the most probable ids of a text leave.
//!
//! It gives the ids of the `tokenizers` crate's model, bit for bit, but that one keeps a hash map for every
//! prefix of a piece: 157 MB for 64,256 pieces, and a WebAssembly module should do with 128 MiB in all. Here
//! a prefix takes nine bytes, and only those prefixes are kept that several pieces share.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use tokenizers::models::unigram::{UnigramError, UnigramTrainer};
use tokenizers::{Model, Token};

/// How much less probable than the least probable piece an unknown character is. `SentencePiece`'s number.
const UNKNOWN_PENALTY: f64 = 10.0;

/// No id: neither a piece ends at a node, nor a path at a position.
const NONE: u32 = u32::MAX;
/// In place of an id: a character that is no piece.
const UNKNOWN: u32 = u32::MAX - 1;

/// The pieces of a vocabulary in the order of their ids, end to end.
#[derive(Default)]
pub(super) struct Pieces {
    text: String,
    /// Where each piece ends in `text`, in bytes.
    ends: Vec<u32>,
    /// Log-probabilities, as long as `ends`. As precise as files write them, since a sum decides between paths.
    scores: Vec<f64>,
}

impl Pieces {
    /// Adds the piece of the next id; the error says what there is too much of.
    pub(super) fn push(&mut self, piece: &str, score: f64) -> Result<(), String> {
        let most = super::MAX_VOCAB;
        if self.ends.len() >= most as usize {
            return Err(format!("the vocabulary has more than {most} pieces"));
        }
        let end = u32::try_from(self.text.len() + piece.len());
        self.ends.push(end.map_err(|_| "the vocabulary has more than 4 GiB of text".to_owned())?);
        self.text.push_str(piece);
        self.scores.push(score);
        Ok(())
    }

    /// Where the piece `id`, which is there, lies in `text`.
    fn range(&self, id: u32) -> Range<usize> {
        let id = id as usize;
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[id] as usize
    }

    fn bytes(&self, id: u32) -> &[u8] {
        &self.text.as_bytes()[self.range(id)]
    }

    fn ids(&self) -> Range<u32> {
        0..self.ends.len() as u32
    }
}

/// A list of pairs of a piece and its score, read without a tree of the list.
impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Pieces;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a list of pieces with scores")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Pieces, A::Error> {
                let mut pieces = Pieces::default();
                while let Some((piece, score)) = list.next_element::<(String, f64)>()? {
                    pieces.push(&piece, score).map_err(A::Error::custom)?;
                }
                Ok(pieces)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// The prefixes that several pieces share, each a node. A node with no children may stand for a longer piece,
/// of which the rest is compared. Nodes are numbered breadth first, so that the children of one are neighbours.
struct Trie {
    /// The last byte of the node's prefix. The root, node 0, has none.
    labels: Vec<u8>,
    /// The piece that ends here, or is the only one from here on, or `NONE`.
    ids: Vec<u32>,
    /// The children of node n are `children[n]..children[n + 1]`, by label.
    children: Vec<u32>,
}

impl Trie {
    fn new(pieces: &Pieces) -> Self {
        let mut order: Vec<u32> = pieces.ids().collect();
        order.sort_unstable_by_key(|id| (pieces.bytes(*id), *id));
        // Of equal pieces the last one counts, as it would in a map.
        order.dedup_by(|later, kept| {
            let is_same = pieces.bytes(*later) == pieces.bytes(*kept);
            *kept = if is_same { *later } else { *kept };
            is_same
        });
        let byte = |id: u32, depth: usize| pieces.bytes(id)[depth];
        let (mut labels, mut ids, mut children) = (vec![0], Vec::new(), Vec::new());
        // What is below a node: the pieces `order[start..end]`, which share their first `depth` bytes.
        let mut below = vec![(0_u32, order.len() as u32, 0_u32)];
        while let Some((start, end, depth)) = below.get(ids.len()).copied() {
            children.push(below.len() as u32);
            let (mut rest, deep) = (&order[start as usize..end as usize], depth as usize);
            let is_end = rest.first().is_some_and(|id| pieces.range(*id).len() == deep);
            let is_alone = rest.len() == 1 && deep > 0;
            ids.push(if is_end || is_alone { rest[0] } else { NONE });
            rest = &rest[usize::from(is_end || is_alone)..];
            while let [first, ..] = rest {
                let label = byte(*first, deep);
                let n_same = rest.partition_point(|id| byte(*id, deep) == label);
                let start = end - rest.len() as u32;
                below.push((start, start + n_same as u32, depth + 1));
                labels.push(label);
                rest = &rest[n_same..];
            }
        }
        children.push(below.len() as u32);
        labels.shrink_to_fit();
        ids.shrink_to_fit();
        children.shrink_to_fit();
        Self { labels, ids, children }
    }

    /// The pieces that `text` begins with, and their lengths, from the shortest to the longest.
    fn prefixes<'a>(&'a self, pieces: &'a Pieces, text: &'a [u8]) -> impl Iterator<Item = (u32, usize)> + 'a {
        let mut next = Some(0);
        let mut depth = 0;
        std::iter::from_fn(move || {
            while let Some(node) = next {
                let (from, to) = (self.children[node] as usize, self.children[node + 1] as usize);
                let child = text.get(depth).and_then(|byte| self.labels[from..to].binary_search(byte).ok());
                next = child.map(|child| from + child);
                let id = self.ids[node];
                let here = depth;
                depth += 1;
                if id != NONE {
                    let len = pieces.range(id).len();
                    if len == here || text.starts_with(pieces.bytes(id)) {
                        return Some((id, len));
                    }
                }
            }
            None
        })
    }
}

/// A Unigram model. Its tokens have ids and offsets, but no text: nothing here asks for it.
pub(super) struct Unigram {
    pieces: Pieces,
    trie: Trie,
    /// What stands for characters that no piece spells. Without it they are an error.
    unknown_id: Option<u32>,
    unknown_score: f64,
    /// For each byte its piece `<0xXX>`; empty where characters do not become bytes.
    byte_ids: Vec<Option<u32>>,
}

impl Unigram {
    /// Builds the model; the error says what is wrong with the vocabulary.
    pub(super) fn new(mut pieces: Pieces, unknown_id: Option<usize>, byte_fallback: bool) -> Result<Self, String> {
        let n_pieces = pieces.ends.len();
        if let Some(id) = unknown_id.filter(|id| *id >= n_pieces) {
            return Err(format!("unk_id is {id}, but the vocabulary has {n_pieces} pieces"));
        }
        pieces.text.shrink_to_fit();
        pieces.ends.shrink_to_fit();
        pieces.scores.shrink_to_fit();
        let least = pieces.scores.iter().copied().fold(f64::INFINITY, f64::min);
        let trie = Trie::new(&pieces);
        let unknown_id = unknown_id.map(|id| id as u32);
        let mut model = Self { pieces, trie, unknown_id, unknown_score: least - UNKNOWN_PENALTY, byte_ids: Vec::new() };
        if byte_fallback {
            model.byte_ids = (0..=u8::MAX).map(|byte| model.token_to_id(&format!("<0x{byte:02X}>"))).collect();
        }
        Ok(model)
    }

    /// The highest id.
    pub(super) fn max_id(&self) -> Option<u32> {
        self.pieces.ids().last()
    }

    /// For every position of `text` in bytes, the last step of the best path that ends there: a piece, or `UNKNOWN`,
    /// or `NONE` for what lies within a character. Of equally good steps the longest is taken.
    fn best_steps(&self, text: &str) -> Result<Vec<u32>, UnigramError> {
        let mut steps = vec![NONE; text.len() + 1];
        let mut scores = vec![0.0; text.len() + 1];
        for (start, char) in text.char_indices() {
            let here = scores[start];
            let mut offer = |id: u32, len: usize, score: f64| {
                let (end, score) = (start + len, here + score);
                let is_better = steps[end] == NONE || score > scores[end];
                if is_better {
                    (steps[end], scores[end]) = (id, score);
                }
                is_better
            };
            let mut is_known = false;
            for (id, len) in self.trie.prefixes(&self.pieces, &text.as_bytes()[start..]).filter(|(_, len)| *len > 0) {
                offer(id, len, self.pieces.scores[id as usize]);
                is_known |= len == char.len_utf8();
            }
            if !is_known && offer(UNKNOWN, char.len_utf8(), self.unknown_score) && self.unknown_id.is_none() {
                return Err(UnigramError::MissingUnkId);
            }
        }
        Ok(steps)
    }

    /// The ids of a stretch of unknown characters: they count as one piece, if there is such a one.
    fn spell_unknown(&self, stretch: &str) -> Vec<u32> {
        if let Some(id) = self.token_to_id(stretch) {
            return vec![id];
        }
        let byte = |byte: u8| self.byte_ids.get(usize::from(byte)).copied().flatten();
        stretch.bytes().map(byte).collect::<Option<_>>().unwrap_or_else(|| self.unknown_id.into_iter().collect())
    }
}

impl fmt::Debug for Unigram {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_struct("Unigram").field("n_pieces", &self.pieces.ends.len()).finish_non_exhaustive()
    }
}

impl Model for Unigram {
    type Trainer = UnigramTrainer;

    fn tokenize(&self, text: &str) -> tokenizers::Result<Vec<Token>> {
        let steps = self.best_steps(text)?;
        let mut tokens = Vec::new();
        // The path is followed from its end. Inside a stretch of unknown characters, `unknown_end` is where it ends.
        let (mut end, mut unknown_end) = (text.len(), None);
        loop {
            let step = if end > 0 { steps[end] } else { NONE };
            let is_unknown = step == UNKNOWN || Some(step) == self.unknown_id;
            if let Some(stretch_end) = unknown_end.take_if(|_| !is_unknown) {
                let ids = self.spell_unknown(&text[end..stretch_end]);
                tokens.extend(ids.into_iter().rev().map(|id| Token::new(id, String::new(), (end, stretch_end))));
            }
            if end == 0 {
                break;
            }
            let start = match step {
                UNKNOWN => text.floor_char_boundary(end - 1),
                id => end - self.pieces.range(id).len(),
            };
            if is_unknown {
                unknown_end.get_or_insert(end);
            } else {
                tokens.push(Token::new(step, String::new(), (start, end)));
            }
            end = start;
        }
        tokens.reverse();
        Ok(tokens)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        let mut prefixes = self.trie.prefixes(&self.pieces, token.as_bytes());
        prefixes.find(|(_, len)| *len == token.len()).map(|(id, _)| id)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.pieces.ids().contains(&id).then(|| self.pieces.text[self.pieces.range(id)].to_owned())
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.pieces.ids().filter_map(|id| Some((self.id_to_token(id)?, id))).collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.pieces.ends.len()
    }

    fn save(&self, _: &Path, _: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("a vocabulary is read, never written".into())
    }

    fn get_trainer(&self) -> UnigramTrainer {
        UnigramTrainer::default()
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::models::unigram::Unigram as Reference;

    use super::*;

    type Vocab = Vec<(String, f64)>;
    /// Ids with their offsets, or the error.
    type Encoded = Result<Vec<(u32, (usize, usize))>, String>;

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % n as u64) as usize
        }

        fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
            &items[self.below(items.len())]
        }

        fn text(&mut self, alphabet: &[char], max_chars: usize) -> String {
            (0..self.below(max_chars + 1)).map(|_| *self.of(alphabet)).collect()
        }
    }

    fn unigram(vocab: &Vocab, unk_id: Option<usize>, byte_fallback: bool) -> Unigram {
        let mut pieces = Pieces::default();
        for (piece, score) in vocab {
            pieces.push(piece, *score).unwrap();
        }
        Unigram::new(pieces, unk_id, byte_fallback).unwrap()
    }

    fn encode(model: &impl Model, text: &str) -> Encoded {
        let tokens = model.tokenize(text).map_err(|error| error.to_string())?;
        Ok(tokens.into_iter().map(|token| (token.id, token.offsets)).collect())
    }

    fn assert_same(vocab: &Vocab, unk_id: Option<usize>, texts: &[String]) {
        for byte_fallback in [false, true] {
            let model = unigram(vocab, unk_id, byte_fallback);
            let reference = Reference::from(vocab.clone(), unk_id, byte_fallback).unwrap();
            for text in texts {
                let problem =
                    || format!("{text:?} by {:?}, {unk_id:?}, {byte_fallback}", &vocab[..vocab.len().min(20)]);
                assert_eq!(encode(&model, text), encode(&reference, text), "{}", problem());
                assert_eq!(model.token_to_id(text), reference.token_to_id(text), "{}", problem());
            }
            assert_eq!(model.get_vocab(), reference.get_vocab());
            assert_eq!(model.get_vocab_size(), reference.get_vocab_size());
            assert_eq!(model.max_id(), reference.get_vocab().into_values().max());
            for id in 0..=vocab.len() as u32 {
                assert_eq!(model.id_to_token(id), reference.id_to_token(id));
            }
        }
    }

    fn data<T: serde::de::DeserializeOwned>(name: &str) -> T {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers").join(name);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_real_vocabulary_gives_the_crates_ids() {
        let file: serde_json::Value = data("helium.json");
        let vocab: Vocab = serde_json::from_value(file["model"]["vocab"].clone()).unwrap();
        let known: Vec<char> = vocab.iter().flat_map(|(piece, _)| piece.chars()).collect();
        let bytes: Vec<char> = (0..=255).map(char::from).collect();
        let emoji: Vec<char> =
            ('\u{1f300}'..='\u{1faff}').chain(['\u{200d}', '\u{fe0f}', '\u{10ffff}', '\0']).collect();
        let mixed = [&known[..], &bytes, &emoji].concat();
        let mut random = Random(1);
        let mut texts: Vec<String> =
            serde_json::from_value(data::<serde_json::Value>("expected.json")["texts"].take()).unwrap();
        texts.extend(["", "<unk>", "<unk>é<unk>", "<0x0A><0x0a>", "\u{2581}\u{2581}"].map(str::to_owned));
        for alphabet in [&known, &bytes, &emoji, &mixed] {
            texts.extend((0..200).map(|_| random.text(alphabet, 60)));
        }
        texts.extend((0..200).map(|_| (0..random.below(20)).map(|_| &*random.of(&vocab).0).collect()));
        assert_same(&vocab, Some(0), &texts);
    }

    #[test]
    fn random_vocabularies_give_the_crates_ids() {
        // Few letters and few scores, so that paths tie and pieces are there twice; positive scores, so that a
        // stretch of unknown characters can be a piece.
        let letters = ['a', 'b', 'é', '漢', '🦀'];
        let unknown = [&letters[..], &['z', 'ž', '🦞']].concat();
        let scores = [-3.0, -1.5, -1.0, -0.5, 0.0, -0.1, -1e-17, 20.0];
        let mut random = Random(2);
        for round in 0..400 {
            let mut vocab: Vocab =
                (0..=random.below(20)).map(|_| (random.text(&letters, 4), *random.of(&scores[..7]))).collect();
            if round % 3 == 0 {
                for (_, score) in &mut vocab {
                    *score += *random.of(&[0.0, scores[7]]);
                }
            }
            if round % 2 == 0 {
                vocab.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), *random.of(&scores))));
            }
            let texts: Vec<String> = (0..30).map(|_| random.text(&unknown, 12)).collect();
            assert_same(&vocab, (round % 5 > 0).then(|| random.below(vocab.len())), &texts);
        }
    }

    #[test]
    fn a_stretch_of_unknown_characters_that_is_a_piece_becomes_it() {
        let vocab = [("<unk>", 50.0), ("xy", 30.0)].map(|(piece, score)| (piece.to_owned(), score)).to_vec();
        assert_eq!(encode(&unigram(&vocab, Some(0), true), "xyx").unwrap(), [(0, (0, 3))]);
        assert_eq!(encode(&unigram(&vocab, Some(0), true), "xy").unwrap(), [(1, (0, 2))]);
        assert_same(&vocab, Some(0), &["xy", "xyx", "x", "<unk>", "x<unk>y"].map(str::to_owned));
    }

    #[test]
    fn wrong_vocabularies_are_refused() {
        let new = |pieces: &[&str], unk_id| {
            let mut vocab = Pieces::default();
            for piece in pieces {
                vocab.push(piece, 0.0).unwrap();
            }
            Unigram::new(vocab, unk_id, true)
        };
        assert_eq!(new(&["a"], Some(1)).unwrap_err(), "unk_id is 1, but the vocabulary has 1 pieces");
        assert_eq!(new(&[], Some(0)).unwrap_err(), "unk_id is 0, but the vocabulary has 0 pieces");
        let empty = new(&[], None).unwrap();
        assert_eq!((empty.max_id(), empty.id_to_token(0), empty.token_to_id("")), (None, None, None));
        assert_eq!(encode(&empty, "").unwrap(), []);
        assert!(encode(&empty, "a").is_err(), "nothing spells it");
        assert!(serde_json::from_str::<Pieces>(r#"[["a", 1e999]]"#).is_err(), "scores are finite");
        assert!(serde_json::from_str::<Pieces>(r#"[["a", 1, 2]]"#).is_err(), "pairs are pairs");
    }

    /// The memory of a vocabulary, in bytes.
    fn bytes(model: &Unigram) -> usize {
        let Unigram { pieces, trie: Trie { labels, ids, children }, byte_ids, .. } = model;
        pieces.text.capacity()
            + 4 * pieces.ends.capacity()
            + 8 * pieces.scores.capacity()
            + labels.capacity()
            + 4 * (ids.capacity() + children.capacity())
            + 8 * byte_ids.capacity()
    }

    #[test]
    fn a_vocabulary_takes_little_memory() {
        let mut random = Random(3);
        let letters: Vec<char> = ('a'..='z').chain('α'..='ω').collect();
        let mut vocab: Vocab = (0..64_000).map(|_| (random.text(&letters, 12), -1.0)).collect();
        vocab.push(("long".repeat(1 << 18), -1.0));
        let n_bytes = bytes(&unigram(&vocab, Some(0), true));
        let text: usize = vocab.iter().map(|(piece, _)| piece.len()).sum();
        assert!(n_bytes - text < 40 * vocab.len(), "{n_bytes} bytes for {text} of text");
    }

    #[test]
    fn a_long_text_without_spaces_takes_linear_time() {
        let vocab = ["<unk>", "a", "aa", "aaaaaaa", "aaaaaaab"].map(|piece| (piece.to_owned(), -1.0)).to_vec();
        let tokens = encode(&unigram(&vocab, Some(0), false), &"a".repeat(7 << 17)).unwrap();
        assert!(tokens.len() == 1 << 17 && tokens.iter().all(|(id, _)| *id == 3));
    }
}
