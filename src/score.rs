//! Given tokens enter, the logits or log-probabilities that the model gives them leave.

use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::model::{MAX_LOGITS, Model};
use crate::sampler::{log_sum_exp, top_logprobs};
use crate::session::Cancel;

/// How probable the model found a text.
#[derive(Clone, PartialEq, Debug)]
pub struct Score {
    /// The tokens.
    pub ids: Vec<u32>,
    /// The log-probability of each given those before it; the first has none.
    pub logprobs: Vec<Option<f32>>,
    /// For each position but the first, the tokens that were most probable there, best first; empty unless
    /// asked for.
    pub top: Vec<Vec<(u32, f32)>>,
    /// The mean of the negated log-probabilities; 0 for a single token.
    pub mean_nll: f64,
}

impl Score {
    /// `e^mean_nll`
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        self.mean_nll.exp()
    }
}

/// Runs `ids` from an empty context, and hands the logits `[vocab_size]` of every position to `visit`, which can
/// end the run.
///
/// # Errors
///
/// [`Error::InvalidArgument`] for no ids or one outside the vocabulary, [`Error::ContextFull`] for too many, and
/// what `visit` returns.
pub async fn visit_logits(
    model: &mut Model,
    ids: &[u32],
    mut visit: impl FnMut(usize, &[f32]) -> Result<ControlFlow<()>>,
) -> Result<()> {
    begin(model, ids)?;
    let vocab_size = model.config().vocab_size;
    let mut pos = 0;
    // As many tokens as logits are read at once: a longer step would gain little beside the reading.
    for batch in ids.chunks(MAX_LOGITS) {
        model.step(batch, 0..batch.len())?;
        let logits = model.read_logits().await?;
        for row in logits.chunks_exact(vocab_size) {
            if visit(pos, row)?.is_break() {
                return Ok(());
            }
            pos += 1;
        }
    }
    Ok(())
}

/// Runs `ids` from an empty context; returns the activation `name` at every position, `[ids.len(), width]`, and its width:
/// see [`Model::tap`].
///
/// # Errors
///
/// As [`visit_logits`], and [`Error::InvalidArgument`] where the model has no such activation.
pub async fn activation(model: &mut Model, ids: &[u32], name: &str) -> Result<(Vec<f32>, usize)> {
    begin(model, ids)?;
    let (mut all, mut width) = (Vec::new(), 0);
    for batch in ids.chunks(MAX_LOGITS) {
        let values;
        (values, width) = model.tap(batch, name).await?;
        all.extend(values);
    }
    Ok((all, width))
}

/// Checks `ids`, and empties the context for them.
fn begin(model: &mut Model, ids: &[u32]) -> Result<()> {
    if ids.is_empty() {
        return Err(Error::InvalidArgument("there are no tokens to score".into()));
    }
    model.check_fits(ids)?;
    model.truncate(0);
    Ok(())
}

/// Scores `ids`, with the `n_top` most probable tokens at each position.
///
/// # Errors
///
/// As [`visit_logits`], and [`Error::Aborted`] when cancelled.
pub async fn score(model: &mut Model, ids: &[u32], n_top: usize, cancel: &Cancel) -> Result<Score> {
    let mut logprobs = vec![None];
    let mut top = Vec::new();
    visit_logits(model, ids, |pos, logits| {
        cancel.check("scoring")?;
        let Some(next) = ids.get(pos + 1) else { return Ok(ControlFlow::Break(())) };
        logprobs.push(Some((f64::from(logits[*next as usize]) - log_sum_exp(logits)?) as f32));
        if n_top > 0 {
            top.push(top_logprobs(logits, n_top)?);
        }
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    let sum: f64 = logprobs.iter().flatten().map(|logprob| -f64::from(*logprob)).sum();
    // A sum of nothing is -0.
    let mean_nll = (sum + 0.0) / (logprobs.len() - 1).max(1) as f64;
    Ok(Score { ids: ids.to_vec(), logprobs, top, mean_nll })
}
