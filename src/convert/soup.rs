//! A weighted average of models of one shape ("model soup"): of one pretrained model's fine-tunings, it is often
//! better than any of them. Source: <https://arxiv.org/abs/2203.05482>.

use std::ops::Range;

use super::{Checkpoint, Source};
use crate::config::{ModelConfig, WeightId};
use crate::error::{Error, Result};
use crate::format::Dtype;
use crate::format::gguf::Metadata;

/// Models to be averaged. Metadata and vocabulary are the first one's.
#[derive(Debug)]
pub struct Soup {
    first: Checkpoint,
    others: Vec<Checkpoint>,
    /// Of all, adding up to 1.
    shares: Vec<f64>,
}

impl Soup {
    /// Checks that the models are alike. `shares` are relative: they are divided by their sum.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for fewer than two models, other shapes, another number of shares than of models, or
    /// shares that are negative or all 0.
    pub fn new(models: Vec<(String, Checkpoint)>, shares: &[f64]) -> Result<Self> {
        let invalid = |problem: String| Err(Error::InvalidArgument(problem));
        if shares.len() != models.len() {
            return invalid(format!("{} weights were given for {} models", shares.len(), models.len()));
        }
        let sum = sum_of(shares)?;
        let mut models = models.into_iter();
        let Some((first_name, first)) = models.next() else { return invalid("no models were given".into()) };
        let mut others = Vec::new();
        for (name, model) in models {
            if let Some((what, expected, found)) = difference(first.config(), model.config()) {
                return invalid(format!(
                    "{name} and {first_name} cannot be averaged: {what} is {found} in the one, {expected} in the other"
                ));
            }
            others.push(model);
        }
        if others.is_empty() {
            return invalid("one model alone cannot be averaged; give two or more".into());
        }
        let shares = shares.iter().map(|share| share / sum).collect();
        Ok(Self { first, others, shares })
    }
}

/// The sum of the models' weights, which it checks.
///
/// # Errors
///
/// [`Error::InvalidArgument`] for weights that are negative, or all 0.
pub fn sum_of(shares: &[f64]) -> Result<f64> {
    if let Some(share) = shares.iter().find(|share| !(0.0..=f64::from(f32::MAX)).contains(*share)) {
        return Err(Error::InvalidArgument(format!("the weight {share} of a model is not a number of at least 0")));
    }
    let sum: f64 = shares.iter().sum();
    if sum > 0.0 { Ok(sum) } else { Err(Error::InvalidArgument("the weights of the models are all 0".into())) }
}

impl Source for Soup {
    fn config(&self) -> &ModelConfig {
        self.first.config()
    }

    fn metadata(&self) -> &Metadata {
        self.first.metadata()
    }

    fn dtype(&self, _: WeightId) -> Option<Dtype> {
        None
    }

    fn bytes(&self, id: WeightId, _: Range<u64>) -> Result<Vec<u8>> {
        Err(Error::Internal(format!("the average of {id} is not stored anywhere")))
    }

    fn values(&self, id: WeightId, rows: Range<u64>) -> Result<Vec<f32>> {
        let mut sums: Vec<f64> = Vec::new();
        for (model, share) in [&self.first].into_iter().chain(&self.others).zip(&self.shares) {
            let values = model.values(id, rows.clone())?;
            sums.resize(values.len(), 0.0);
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += share * f64::from(value);
            }
        }
        Ok(sums.into_iter().map(|sum| sum as f32).collect())
    }
}

/// The first setting in which two models differ that their weights depend on.
fn difference(a: &ModelConfig, b: &ModelConfig) -> Option<(&'static str, String, String)> {
    let settings = |config: &ModelConfig| {
        [
            ("the number of layers", config.n_layers as f64),
            ("the hidden size", config.hidden_size as f64),
            ("the feed-forward size", config.intermediate_size as f64),
            ("the number of heads", config.n_heads as f64),
            ("the number of heads of keys", config.n_kv_heads as f64),
            ("the width of a head", config.head_dim as f64),
            ("the size of the vocabulary", config.vocab_size as f64),
            ("RoPE's theta", config.rope_theta),
            ("the norms' epsilon", f64::from(config.norm_eps)),
            ("the number of output projections", f64::from(u8::from(!config.tie_word_embeddings))),
        ]
    };
    let pairs = settings(a).into_iter().zip(settings(b));
    let differing = pairs.into_iter().find(|(a, b)| a.1 != b.1);
    differing.map(|(a, b)| (a.0, a.1.to_string(), b.1.to_string()))
}
