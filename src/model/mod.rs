//! The transformer on the device: weights, KV cache and plans, and steps that run them. It knows tokens by
//! number only, and neither text nor how the next one is chosen.

pub mod blueprint;
mod cache;
mod forward;
mod picker;
mod product;
pub(crate) mod tuning;
mod weights;

use std::ops::Range;
use std::rc::Rc;

use blueprint::{Blueprint, MatrixId};
pub use cache::Cache;
use forward::Plans;
pub(crate) use forward::compile;
use picker::Picker;
pub use picker::{Picked, Ticket};
use tuning::Cores;
pub use tuning::{Kernels, Tuning};
pub use weights::Weights;

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::plan::{self, Dispatch, Step};
use crate::gpu::tensor::Piece;
use crate::sampler::Sampling;

/// Most tokens a step takes on a GPU, and on a software adapter, which gains nothing by more: what the activations are
/// allocated for.
pub const MAX_BATCH: usize = 512;
const MAX_SOFTWARE_BATCH: usize = 128;

/// Tokens of a step where that is not known to be quick, on a GPU, and on a software adapter.
const CAUTIOUS_BATCH: usize = 128;
const CAUTIOUS_SOFTWARE_BATCH: usize = 32;

/// Most positions whose logits are computed at once.
pub const MAX_LOGITS: usize = 32;

/// Cached positions per slice of the attention while decoding, at least: as many as a workgroup takes at once.
const MIN_SLICE_LEN: u32 = 256;

/// Most slices of the attention while decoding, on a GPU.
const MAX_SLICES: u32 = 64;

/// Workgroups that attention should have on a software adapter: as many as such a processor computes at a time.
const SOFTWARE_WORKGROUPS: u32 = 8;

/// Tokens that a step takes at most.
pub(crate) fn max_batch(is_software: bool) -> usize {
    if is_software { MAX_SOFTWARE_BATCH } else { MAX_BATCH }
}

/// Positions in a slice of a cache of `len`: few, so that many workgroups share it, but no more slices than are joined
/// quickly.
fn slice_len(is_software: bool, config: &ModelConfig, len: u32) -> u32 {
    len.div_ceil(max_slices(is_software, config)).next_multiple_of(MIN_SLICE_LEN)
}

/// The step of a token at `pos`.
fn step_of_one(is_software: bool, config: &ModelConfig, pos: u32) -> Step {
    Step { pos, n_tokens: 1, first_token: 0, slice_len: slice_len(is_software, config, pos + 1) }
}

/// Slices of the attention at most.
fn max_slices(is_software: bool, config: &ModelConfig) -> u32 {
    if is_software { SOFTWARE_WORKGROUPS.div_ceil(config.n_kv_heads as u32) } else { MAX_SLICES }
}

/// In the context: a token that the device chose and nobody has read yet. No vocabulary has it.
const UNKNOWN: u32 = u32::MAX;

/// A dispatch that was timed.
#[derive(Clone, PartialEq, Debug)]
pub struct Traced {
    /// The kernel's label, which spells its variant, and which of the things that it can do it did.
    pub kernel: String,
    /// How long it took.
    pub seconds: f64,
    /// Bytes of weights, keys and values that it read at least.
    pub bytes: u64,
    /// Floating-point operations that it did at least.
    pub flops: u64,
}

/// A model on the device, with one context.
#[derive(Debug)]
pub struct Model {
    gpu: Rc<Gpu>,
    config: ModelConfig,
    plans: Plans,
    picker: Picker,
    /// The last token that the device chose and somebody read, and its position in the context.
    last_pick: (usize, u32),
    cache: Cache,
    weight_bytes: u64,
    weight_bytes_per_token: u64,
    quantization: String,
    tuning: Tuning,
    /// Whether steps of the prompt are quick, as far as is known.
    is_quick: bool,
    /// Dispatches of the last step.
    n_dispatches: usize,
    /// Logits that are under way in the staging buffer.
    pending_logits: usize,
}

impl Model {
    /// Plans the model whose `weights` are on the device, with an empty `cache`.
    ///
    /// # Errors
    ///
    /// What the device reports, such as [`Error::OutOfMemory`].
    pub(crate) async fn new(
        gpu: Rc<Gpu>,
        blueprint: &Blueprint,
        weights: &Weights,
        cache: Cache,
        cores: &Cores,
    ) -> Result<Self> {
        let config = blueprint.config()?.clone();
        let guard = gpu.guard();
        let plans = Plans::new(&gpu, &config, weights, &cache, cores)?;
        let picker = plans.picker(&gpu);
        gpu.compiled().await;
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("warm-up") });
        plans.warm_up(&gpu, &picker, &mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        gpu.queue.submit([encoder.finish()]);
        gpu.wait().await?;
        guard.finish().await?;
        let (weight_bytes, quantization) = (weights.bytes(), blueprint.quantization());
        let looked_up = if config.tie_word_embeddings { &[] } else { weights.matrix(MatrixId::Embedding) };
        let unread = |piece: &Piece| piece.shape.bytes() / piece.shape.n_rows as u64 * (piece.shape.n_rows as u64 - 1);
        let weight_bytes_per_token = weight_bytes - looked_up.iter().map(unread).sum::<u64>();
        Ok(Self {
            gpu,
            config,
            plans,
            picker,
            last_pick: (0, UNKNOWN),
            cache,
            weight_bytes,
            weight_bytes_per_token,
            quantization,
            tuning: cores.tuning().clone(),
            is_quick: false,
            n_dispatches: 0,
            pending_logits: 0,
        })
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

    /// Tokens that a step takes at most.
    #[must_use]
    pub fn max_batch(&self) -> usize {
        max_batch(self.gpu.is_software())
    }

    /// Tokens that a step of a prompt should take, so that it does not take too long: the most only where steps are
    /// [known to be quick](Model::set_quick).
    pub(crate) fn batch_len(&self) -> usize {
        match (self.gpu.is_software(), self.is_quick) {
            (true, _) => CAUTIOUS_SOFTWARE_BATCH,
            (false, false) => CAUTIOUS_BATCH,
            (false, true) => MAX_BATCH,
        }
    }

    /// Notes whether a step of [`Model::batch_len`] tokens was quick.
    pub(crate) fn set_quick(&mut self, is_quick: bool) {
        self.is_quick = is_quick;
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

    /// Bytes of weights that a decode step must read: all, but of an embedding that is not the output projection too
    /// only a row.
    #[must_use]
    pub fn weight_bytes_per_token(&self) -> u64 {
        self.weight_bytes_per_token
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

    /// Which kernels were found fastest: give it to the next load on this device, which then need not measure.
    #[must_use]
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// The kernels in use, by their labels.
    #[must_use]
    pub fn kernels(&self) -> Vec<String> {
        self.plans.kernels()
    }

    /// Runs `ids`, at most [`Model::max_batch`], after the tokens in the context, and submits the logits of those in
    /// `logits` (counted within `ids`, at most [`MAX_LOGITS`]) for [`Model::read_logits`].
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an id outside the vocabulary, [`Error::ContextFull`] when the context
    /// does not hold so many, [`Error::Internal`] for too long a batch. The context is then as before.
    pub fn step(&mut self, ids: &[u32], logits: Range<usize>) -> Result<()> {
        self.check_step(ids, &logits)?;
        let step = self.begin_step(Some(ids), &logits);
        let mut encoder = self.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        self.n_dispatches = self.plans.encode(&mut pass, &step, logits.len());
        drop(pass);
        self.pending_logits = logits.len();
        if !logits.is_empty() {
            self.plans.encode_copy(&mut encoder, logits.len());
        }
        self.gpu.queue.submit([encoder.finish()]);
        self.end_step(Some(ids));
        Ok(())
    }

    /// Begins a generation after `prompt_ids`, the tokens of which the device chooses as `sampling` says, drawing
    /// from `seed`.
    ///
    /// # Errors
    ///
    /// As [`Sampling::check`].
    pub fn begin_picks(&mut self, sampling: &Sampling, seed: u64, prompt_ids: &[u32]) -> Result<()> {
        sampling.check()?;
        self.last_pick = (0, UNKNOWN);
        self.picker.begin(&self.gpu, sampling, seed, prompt_ids);
        Ok(())
    }

    /// Runs `ids` as [`Model::step`] does, or without any the token that was chosen last, and has the device choose
    /// the next. The token enters the context with the step after; until [`Model::picked`] it is not known there.
    ///
    /// # Errors
    ///
    /// As [`Model::step`].
    pub fn step_and_pick(&mut self, ids: Option<&[u32]>) -> Result<Ticket> {
        match ids {
            Some(ids) => self.check_step(ids, &(ids.len().saturating_sub(1)..ids.len()))?,
            None => self.check_room(self.cache.ids().len() + 1)?,
        }
        let n_tokens = ids.map_or(1, <[u32]>::len);
        let step = self.begin_step(ids, &(n_tokens - 1..n_tokens));
        let mut encoder = self.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        self.n_dispatches = self.plans.encode(&mut pass, &step, 1) + self.picker.encode(&mut pass);
        drop(pass);
        let staging = self.picker.encode_copy(&self.gpu, &mut encoder);
        self.pending_logits = 0;
        let submission = self.gpu.queue.submit([encoder.finish()]);
        self.end_step(ids);
        Ok(Picker::ticket(&self.gpu, self.cache.ids().len(), staging, submission))
    }

    /// Waits for a choice. They come in the order in which they were asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when a logit is not a number, and what the device reported.
    pub async fn picked(&mut self, ticket: Ticket) -> Result<Picked> {
        let pos = ticket.pos();
        let picked = self.picker.read(&self.gpu, ticket).await?;
        if let Picked::Token(choice) = picked {
            self.last_pick = (pos, choice.id);
            self.cache.set(pos, choice.id);
        }
        Ok(picked)
    }

    /// Runs `ids` as [`Model::step_and_pick`] does, each dispatch by itself, and tells how long each took. Where the
    /// device has no timestamps ([`crate::gpu::Offer`]) all times are 0.
    ///
    /// # Errors
    ///
    /// As [`Model::step`].
    pub async fn trace(&mut self, ids: &[u32]) -> Result<Vec<Traced>> {
        let last = ids.len().saturating_sub(1)..ids.len();
        self.check_step(ids, &last)?;
        let step = self.begin_step(Some(ids), &last);
        let (body, head) = self.plans.plans(&step, 1);
        let head_step = Step { n_tokens: 1, ..step };
        let mut passes = Vec::new();
        for (plan, step) in [(body, step), (head, head_step), (self.picker.plan(), Step::default())] {
            let dispatches = plan.dispatches.iter().filter(|dispatch| dispatch.workgroups(&step).is_some());
            passes.extend(dispatches.map(|dispatch| (step, vec![dispatch])));
        }
        let seconds = self.gpu.time(&passes).await?;
        let traced = passes.iter().zip(seconds).map(|((step, dispatches), seconds)| Traced {
            kernel: dispatches[0].label(),
            seconds,
            bytes: dispatches[0].work.bytes(step),
            flops: dispatches[0].work.flops(step),
        });
        let traced = traced.collect();
        self.end_step(Some(ids));
        Ok(traced)
    }

    /// Runs `ids` as [`Model::step`] does; returns what an activation on the way is for each, and how many numbers that are.
    /// Their names: `embedding`, and of every layer `layers.N.queries` (after `RoPE`), `.attention` (before its output
    /// projection), `.middle` (the residual stream after attention), `.mlp` (before down) and `.output`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] where there is none of that name, else as [`Model::step`].
    pub async fn tap(&mut self, ids: &[u32], name: &str) -> Result<(Vec<f32>, usize)> {
        use wgpu::BufferUsages as Usage;
        self.check_step(ids, &(0..0))?;
        let (step, n_layers) = (self.begin_step(Some(ids), &(0..0)), self.config.n_layers);
        let (plan, _) = self.plans.plans(&step, 0);
        let tap = plan.tap(name).ok_or_else(|| {
            Error::InvalidArgument(format!(
                "there is no activation {name:?}; this model has embedding, and layers.N.queries, layers.N.attention, \
                 layers.N.middle, layers.N.mlp and layers.N.output with N from 0 to {}",
                n_layers - 1
            ))
        })?;
        let bytes = (ids.len() * tap.stride * 4) as u64;
        let staging = self.gpu.uncounted("tap", bytes, Usage::COPY_DST | Usage::MAP_READ);
        let mut encoder = self.encoder();
        let encode = |encoder: &mut wgpu::CommandEncoder, dispatches: &[Dispatch]| {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            plan::encode(&mut pass, dispatches, &step)
        };
        let (before, after) = plan.dispatches.split_at(tap.n_dispatches);
        let n_before = encode(&mut encoder, before);
        encoder.copy_buffer_to_buffer(&tap.buffer, 0, &staging, 0, bytes);
        self.n_dispatches = n_before + encode(&mut encoder, after);
        self.gpu.queue.submit([encoder.finish()]);
        let rows: Vec<f32> = self.gpu.read(&staging, ids.len() * tap.stride).await?;
        staging.destroy();
        let width = tap.width;
        let values = rows.chunks_exact(tap.stride).flat_map(|row| &row[..width]).copied().collect();
        self.end_step(Some(ids));
        Ok((values, width))
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

    fn check_step(&self, ids: &[u32], logits: &Range<usize>) -> Result<()> {
        self.check_ids(ids)?;
        if ids.is_empty() || ids.len() > self.max_batch() || logits.len() > MAX_LOGITS || logits.end > ids.len() {
            let n = ids.len();
            return Err(Error::Internal(format!("a step of {n} tokens with the logits of {logits:?} is too large")));
        }
        self.check_room(self.cache.ids().len() + ids.len())
    }

    /// Writes what a step over `ids`, or the token on the device, reads.
    fn begin_step(&self, ids: Option<&[u32]>, logits: &Range<usize>) -> Step {
        let (pos, max_seq) = (self.cache.ids().len() as u32, self.cache.max_seq() as u32);
        let n_tokens = ids.map_or(1, <[u32]>::len) as u32;
        // Decoding spreads a long cache over more workgroups; a batch has enough of them.
        let step = if n_tokens == 1 {
            step_of_one(self.gpu.is_software(), &self.config, pos)
        } else {
            Step { pos, n_tokens, first_token: 0, slice_len: max_seq }
        };
        self.plans.write(&self.gpu, ids, &step, logits);
        step
    }

    /// Notes the tokens of a step in the context.
    fn end_step(&mut self, ids: Option<&[u32]>) {
        let (picked_pos, picked_id) = self.last_pick;
        let picked = if picked_pos == self.cache.ids().len() { picked_id } else { UNKNOWN };
        self.cache.extend(ids.unwrap_or(&[picked]));
    }
}
