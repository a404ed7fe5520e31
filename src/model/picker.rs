//! Tokens that the device chooses itself, so that the next step need not wait for the host: `sample.wgsl` and what it
//! reads and writes.

use bytemuck::{Pod, Zeroable};

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::device::Mapping;
use crate::gpu::kernel::Kernel;
use crate::gpu::part::whole;
use crate::gpu::plan::{Dispatch, Extent, Groups, Plan, Step, Work};
use crate::sampler::{Choice, Sampling};

/// In `counts`: the token is in the prompt or the text.
const SEEN: u32 = 1 << 31;
/// In place of an id: the choice depends on more tokens than the kernel sorts.
const UNDECIDED: u32 = u32::MAX;
/// In place of an id: a logit is not a number.
const NONSENSE: u32 = u32::MAX - 1;

/// Bytes of a pick: id, log-probability.
const PICK_BYTES: u64 = 8;
/// Bytes of how many were drawn before it, padded.
const DRAWN_BYTES: u64 = 8;
/// Bytes in which the kernel sorts 1024 tokens: twice as many pairs.
const SORT_BYTES: u64 = 2 * 1024 * 8;

/// `Params` of `sample.wgsl`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
struct Params {
    vocab_size: u32,
    has_penalties: u32,
    top_k: u32,
    temperature: f32,
    top_p: f32,
    min_p: f32,
    repetition: f32,
    presence: f32,
    frequency: f32,
    seed_low: u32,
    seed_high: u32,
    unused: u32,
}

/// What the device chose.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Picked {
    /// A token.
    Token(Choice),
    /// Nothing: the host must choose, and what was submitted after is void.
    Undecided,
}

/// A choice that is under way.
#[derive(Debug)]
pub struct Ticket {
    pos: usize,
    staging: wgpu::Buffer,
    mapping: Option<Mapping>,
    submission: Option<wgpu::SubmissionIndex>,
}

impl Drop for Ticket {
    /// Frees what nobody read: a browser would do so only when it comes to collect garbage.
    fn drop(&mut self) {
        if self.mapping.is_some() {
            self.staging.destroy();
        }
    }
}

impl Ticket {
    /// The position in the context that the token will have.
    #[must_use]
    pub fn pos(&self) -> usize {
        self.pos
    }
}

/// The kernel, its buffers, and how tokens are chosen in the present generation.
#[derive(Debug)]
pub(super) struct Picker {
    params: Params,
    uniform: wgpu::Buffer,
    biases: wgpu::Buffer,
    counts: wgpu::Buffer,
    pick: wgpu::Buffer,
    plan: Plan,
    /// Staging buffers that nobody waits for.
    idle: Vec<wgpu::Buffer>,
}

/// The kernel: of few threads and bins where the processor computes them one after another, and compiles for each; not
/// fewer threads, since lavapipe leaves a loop after 65,535 rounds, and the sorting of 1024 takes that many of 16.
pub(super) fn kernel(gpu: &Gpu) -> Kernel {
    if gpu.is_software() { Kernel::sample(32, 128) } else { Kernel::sample(256, 512) }
}

/// Bytes of all buffers but for some dozens.
pub(super) fn bytes(vocab_size: usize) -> u64 {
    2 * 4 * vocab_size as u64 + SORT_BYTES
}

impl Picker {
    /// `logits`: `[vocab_size]`, of the position to choose for. The id is written to the first of `ids`.
    pub(super) fn new(gpu: &Gpu, vocab_size: usize, logits: &wgpu::Buffer, ids: &wgpu::Buffer) -> Self {
        let params = Params { vocab_size: vocab_size as u32, ..Params::default() };
        let uniform = gpu.uniform("sample params", &params);
        let biases = gpu.storage("biases", 4 * vocab_size as u64);
        let counts = gpu.storage("counts", 4 * vocab_size as u64);
        let pick = gpu.storage("pick", PICK_BYTES + DRAWN_BYTES + SORT_BYTES);
        let pipeline = gpu.pipeline(&kernel(gpu));
        let parts = [&uniform, logits, &biases, &counts, ids, &pick].map(whole);
        let group = Groups::default().bind(gpu, &pipeline, parts);
        let work = Work { bytes: 4 * vocab_size as u64, ..Work::default() };
        let dispatch = Dispatch { work, pipeline, group, grid: [Extent::Fixed(1); 3] };
        let plan = Plan { dispatches: vec![dispatch], ..Plan::default() };
        Self { params, uniform, biases, counts, pick, plan, idle: Vec::new() }
    }

    /// Begins a generation after `prompt_ids`, which draws from `seed`.
    pub(super) fn begin(&mut self, gpu: &Gpu, sampling: &Sampling, seed: u64, prompt_ids: &[u32]) {
        let has_penalties = sampling.changes_logits();
        let vocab_size = self.params.vocab_size;
        self.params = Params {
            vocab_size,
            has_penalties: has_penalties.into(),
            top_k: u32::try_from(sampling.top_k).unwrap_or(u32::MAX),
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repetition: sampling.repetition_penalty,
            presence: sampling.presence_penalty,
            frequency: sampling.frequency_penalty,
            seed_low: seed as u32,
            seed_high: (seed >> 32) as u32,
            unused: 0,
        };
        gpu.queue.write_buffer(&self.uniform, 0, bytemuck::bytes_of(&self.params));
        gpu.queue.write_buffer(&self.pick, PICK_BYTES, &[0; DRAWN_BYTES as usize]);
        if !has_penalties {
            return;
        }
        let mut biases = vec![0.0_f32; vocab_size as usize];
        for (id, bias) in &sampling.logit_bias {
            if let Some(sum) = biases.get_mut(*id as usize) {
                *sum += bias;
            }
        }
        let mut counts = vec![0_u32; vocab_size as usize];
        for id in prompt_ids {
            if let Some(count) = counts.get_mut(*id as usize) {
                *count = SEEN;
            }
        }
        gpu.queue.write_buffer(&self.biases, 0, bytemuck::cast_slice(&biases));
        gpu.queue.write_buffer(&self.counts, 0, bytemuck::cast_slice(&counts));
    }

    /// Encodes the next choice; returns its dispatches.
    pub(super) fn encode(&self, pass: &mut wgpu::ComputePass<'_>) -> usize {
        self.plan.encode(pass, &Step::default())
    }

    /// Encodes the copy of the choice to where it will be read, which is returned.
    pub(super) fn encode_copy(&mut self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder) -> wgpu::Buffer {
        let staging = self.idle.pop().unwrap_or_else(|| {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            gpu.uncounted("pick staging", PICK_BYTES, usage)
        });
        encoder.copy_buffer_to_buffer(&self.pick, 0, &staging, 0, PICK_BYTES);
        staging
    }

    /// The dispatches of a choice.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A ticket for what was encoded and submitted.
    pub(super) fn ticket(gpu: &Gpu, pos: usize, staging: wgpu::Buffer, submission: wgpu::SubmissionIndex) -> Ticket {
        let mapping = Some(gpu.map(&staging, PICK_BYTES));
        Ticket { pos, staging, mapping, submission: Some(submission) }
    }

    /// Waits for a choice.
    pub(super) async fn read(&mut self, gpu: &Gpu, mut ticket: Ticket) -> Result<Picked> {
        let Some(mapping) = ticket.mapping.take() else {
            return Err(Error::Internal("a choice was read twice".into()));
        };
        let words: Vec<u32> = gpu.read_mapped(mapping, ticket.submission.take()).await?;
        self.idle.push(ticket.staging.clone());
        match words[0] {
            UNDECIDED => Ok(Picked::Undecided),
            NONSENSE => Err(Error::Internal(format!(
                "the logit of token {} is not a number: the weights are damaged or the GPU computed nonsense; load the \
                 model again",
                words[1]
            ))),
            id if id < self.params.vocab_size => Ok(Picked::Token(Choice { id, logprob: f32::from_bits(words[1]) })),
            id => Err(Error::Internal(format!(
                "the GPU chose the token {id}, which does not exist; load the model again"
            ))),
        }
    }
}
