//! The models of subwords as one type, which the `tokenizers` crate's pipeline runs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::{
    DecoderWrapper, Model, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Token, TokenizerImpl,
};

use super::unigram::Unigram;

/// The crate's pipeline around one of our models. Its decoder and post-processor stay empty.
pub(super) type Pipeline =
    TokenizerImpl<SubwordModel, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// What a stretch of text becomes ids by.
#[derive(Debug)]
pub(super) enum SubwordModel {
    Bpe(Box<BPE>),
    Unigram(Unigram),
}

impl SubwordModel {
    /// The highest id, without a copy of the vocabulary where that can be.
    pub(super) fn max_id(&self) -> Option<u32> {
        match self {
            Self::Bpe(model) => model.get_vocab().into_values().max(),
            Self::Unigram(model) => model.max_id(),
        }
    }
}

impl From<BPE> for SubwordModel {
    fn from(model: BPE) -> Self {
        Self::Bpe(Box::new(model))
    }
}

impl From<Unigram> for SubwordModel {
    fn from(model: Unigram) -> Self {
        Self::Unigram(model)
    }
}

impl Model for SubwordModel {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, text: &str) -> tokenizers::Result<Vec<Token>> {
        match self {
            Self::Bpe(model) => model.tokenize(text),
            Self::Unigram(model) => model.tokenize(text),
        }
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        match self {
            Self::Bpe(model) => model.token_to_id(token),
            Self::Unigram(model) => model.token_to_id(token),
        }
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        match self {
            Self::Bpe(model) => model.id_to_token(id),
            Self::Unigram(model) => model.id_to_token(id),
        }
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        match self {
            Self::Bpe(model) => model.get_vocab(),
            Self::Unigram(model) => model.get_vocab(),
        }
    }

    fn get_vocab_size(&self) -> usize {
        match self {
            Self::Bpe(model) => model.get_vocab_size(),
            Self::Unigram(model) => model.get_vocab_size(),
        }
    }

    fn save(&self, folder: &Path, name: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        match self {
            Self::Bpe(model) => model.save(folder, name),
            Self::Unigram(model) => model.save(folder, name),
        }
    }

    fn get_trainer(&self) -> TrainerWrapper {
        match self {
            Self::Bpe(model) => model.get_trainer().into(),
            Self::Unigram(model) => model.get_trainer().into(),
        }
    }
}
