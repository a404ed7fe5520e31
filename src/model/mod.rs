//! The transformer on the device: weights, KV cache and plans, and steps that run them. It knows tokens by
//! number only, and neither text nor how the next one is chosen.

pub mod blueprint;
mod cache;
mod forward;
mod weights;

use std::ops::Range;
use std::rc::Rc;

use blueprint::Blueprint;
pub use cache::Cache;
use forward::Plans;
pub use weights::Weights;

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::plan::Step;

/// Most tokens a step takes: what the activations are allocated for.
pub const MAX_BATCH: usize = 128;

/// Most positions whose logits are computed at once.
pub const MAX_LOGITS: usize = 32;

/// Cached positions per slice of the attention while decoding.
const SLICE_LEN: u32 = 256;

/// A model on the device, with one context.
#[derive(Debug)]
pub struct Model {
    gpu: Rc<Gpu>,
    config: ModelConfig,
    plans: Plans,
    cache: Cache,
    weight_bytes: u64,
    quantization: String,
    /// Dispatches of the last step.
    n_dispatches: usize,
    /// Logits that are under way in the staging buffer.
    pending_logits: usize,
}

impl Model {
    /// Plans the model whose `weights` are on the device.
    ///
    /// # Errors
    ///
    /// What the device reports, such as [`Error::OutOfMemory`].
    pub(crate) async fn new(gpu: Rc<Gpu>, blueprint: &Blueprint, weights: &Weights) -> Result<Self> {
        let config = blueprint.config()?.clone();
        let guard = gpu.guard();
        let cache = Cache::new(&gpu, &config, blueprint.context_length()?);
        let plans = Plans::new(&gpu, &config, weights, &cache)?;
        gpu.wait().await?;
        guard.finish().await?;
        let (weight_bytes, quantization) = (weights.bytes(), blueprint.quantization());
        Ok(Self { gpu, config, plans, cache, weight_bytes, quantization, n_dispatches: 0, pending_logits: 0 })
    }

    /// What the model looks like.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Tokens the context holds at most.
    #[must_use]
    pub fn max_seq(&self) -> usize {
        self.cache.max_seq()
    }

    /// The tokens in the context.
    #[must_use]
    pub fn context(&self) -> &[u32] {
        self.cache.ids()
    }

    /// Cuts the context back to its first `n_tokens`; does nothing if it is shorter.
    pub fn truncate(&mut self, n_tokens: usize) {
        self.cache.truncate(n_tokens);
    }

    /// Bytes of all weights on the device.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// The types of the weight matrices, the one with most weights first, such as `"Q4_K, Q6_K"`.
    #[must_use]
    pub fn quantization(&self) -> &str {
        &self.quantization
    }

    /// Bytes of the KV cache.
    #[must_use]
    pub fn kv_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// Dispatches that the last step took.
    #[must_use]
    pub fn n_dispatches(&self) -> usize {
        self.n_dispatches
    }

    /// The kernels in use, by their labels.
    #[must_use]
    pub fn kernels(&self) -> Vec<String> {
        self.plans.kernels()
    }

    /// Runs `ids`, at most [`MAX_BATCH`], after the tokens in the context, and submits the logits of those in
    /// `logits` (counted within `ids`, at most [`MAX_LOGITS`]) for [`Model::read_logits`].
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an id outside the vocabulary, [`Error::ContextFull`] when the context
    /// does not hold so many, [`Error::Internal`] for too long a batch. The context is then as before.
    pub fn step(&mut self, ids: &[u32], logits: Range<usize>) -> Result<()> {
        self.check_ids(ids)?;
        if ids.is_empty() || ids.len() > MAX_BATCH || logits.len() > MAX_LOGITS || logits.end > ids.len() {
            let n = ids.len();
            return Err(Error::Internal(format!("a step of {n} tokens with the logits of {logits:?} is too large")));
        }
        let (pos, max_seq) = (self.cache.ids().len(), self.cache.max_seq());
        self.check_room(pos + ids.len())?;
        // Decoding spreads a long cache over more workgroups; a batch has enough of them.
        let slice_len = if ids.len() == 1 { SLICE_LEN } else { max_seq as u32 };
        let step = Step { pos: pos as u32, n_tokens: ids.len() as u32, first_token: 0, slice_len };
        let mut encoder = self.encoder();
        self.n_dispatches = self.plans.encode_step(&self.gpu, &mut encoder, ids, &step);
        self.n_dispatches += self.encode_logits(&mut encoder, logits);
        self.gpu.queue.submit([encoder.finish()]);
        self.cache.extend(ids);
        Ok(())
    }

    /// Waits for the logits that the last step submitted: `[n, vocab_size]`.
    ///
    /// # Errors
    ///
    /// What the device reported.
    pub async fn read_logits(&mut self) -> Result<Vec<f32>> {
        let n = std::mem::take(&mut self.pending_logits);
        self.gpu.read(self.plans.staging(), n * self.config.vocab_size).await
    }

    /// Waits until all submitted steps are done.
    ///
    /// # Errors
    ///
    /// What the device reported.
    pub async fn wait(&self) -> Result<()> {
        self.gpu.wait().await
    }

    /// Refuses ids outside the vocabulary.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] naming the first such id.
    pub fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocab_size = self.config.vocab_size;
        match ids.iter().find(|id| **id as usize >= vocab_size) {
            None => Ok(()),
            Some(id) => Err(Error::InvalidArgument(format!(
                "token id {id} is outside the vocabulary; this model has ids 0 to {}",
                vocab_size - 1
            ))),
        }
    }

    /// Refuses ids that a context cannot hold, or that are outside the vocabulary.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`] or [`Error::InvalidArgument`].
    pub fn check_fits(&self, ids: &[u32]) -> Result<()> {
        self.check_ids(ids)?;
        self.check_room(ids.len())
    }

    fn check_room(&self, n_tokens: usize) -> Result<()> {
        let (max_seq, longest) = (self.cache.max_seq(), self.config.context_length);
        if n_tokens <= max_seq {
            return Ok(());
        }
        Err(Error::ContextFull(format!(
            "{n_tokens} tokens do not fit the context of {max_seq}; shorten the text{}",
            if max_seq < longest { format!(" or ask for a longer context, up to {longest}") } else { String::new() }
        )))
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("step") })
    }

    fn encode_logits(&mut self, encoder: &mut wgpu::CommandEncoder, logits: Range<usize>) -> usize {
        self.pending_logits = logits.len();
        if logits.is_empty() { 0 } else { self.plans.encode_logits(&self.gpu, encoder, logits) }
    }
}
