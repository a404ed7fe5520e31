//! One kernel at a time: words enter, a dispatch, words leave. Every buffer that a kernel writes is full of
//! ones before, and every buffer has more of them past its end, so that what is not written, or written or
//! read out of place, shows: as floats, and as pairs of f16, such words are not numbers.

use std::rc::Rc;

use helium_webgpu::gpu::kernel::Kernel;
use helium_webgpu::gpu::part::whole;
use helium_webgpu::gpu::plan::{Dispatch, Extent, Groups, Plan, Step, Work};
use helium_webgpu::gpu::{Gpu, Offer};

use crate::{open, text};

/// What an element holds that nobody wrote.
pub(crate) const POISON: u32 = u32::MAX;

/// Poisoned words past the end of every storage buffer.
const GUARD_WORDS: usize = 64;

/// A device, and the kernels run on it so far.
pub(crate) struct Runner {
    gpu: Rc<Gpu>,
}

impl Runner {
    /// Kernels need no limit above the defaults; a plain device has none of the optional features either.
    pub(crate) async fn open(is_plain: bool) -> Result<Self, String> {
        Ok(Self { gpu: open(is_plain).await? })
    }

    /// What the device has besides.
    pub(crate) fn offer(&self) -> Offer {
        self.gpu.offer()
    }

    /// A storage buffer of `words`, and the guard.
    pub(crate) fn storage(&self, label: &str, words: &[u32]) -> wgpu::Buffer {
        let mut words = words.to_vec();
        words.resize((words.len() + GUARD_WORDS).next_multiple_of(4), POISON);
        let buffer = self.gpu.storage(label, words.len() as u64 * 4);
        self.gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
        buffer
    }

    /// A storage buffer of `values`.
    pub(crate) fn floats(&self, label: &str, values: &[f32]) -> wgpu::Buffer {
        self.storage(label, bytemuck::cast_slice(values))
    }

    /// A storage buffer of `len` poisoned words.
    pub(crate) fn poisoned(&self, label: &str, len: usize) -> wgpu::Buffer {
        self.storage(label, &vec![POISON; len])
    }

    /// A uniform buffer of `words`, a whole number of 16 bytes as every `Params` is.
    pub(crate) fn uniform<const N: usize>(&self, label: &str, words: &[u32; N]) -> wgpu::Buffer {
        self.gpu.uniform(label, words)
    }

    /// Runs `kernel` on `buffers` over a grid of workgroups. What the device refuses, the next
    /// [`Runner::read`] reports.
    pub(crate) fn run(&self, kernel: &Kernel, buffers: &[&wgpu::Buffer], grid: [u32; 3]) {
        let pipeline = self.gpu.pipeline(kernel);
        let group = Groups::default().bind(&self.gpu, &pipeline, buffers.iter().copied().map(whole));
        let work = Work::default();
        let plan = Plan {
            dispatches: vec![Dispatch { work, pipeline, group, grid: grid.map(Extent::Fixed) }],
            ..Plan::default()
        };
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        plan.encode(&mut pass, &Step::default());
        drop(pass);
        self.gpu.queue.submit([encoder.finish()]);
    }

    /// All words of a storage buffer, the guard among them.
    pub(crate) async fn read(&self, buffer: &wgpu::Buffer) -> Result<Vec<u32>, String> {
        Ok(self.read_all(&[buffer]).await?.swap_remove(0))
    }

    /// The same of several at once: Firefox tells of each read only at its next poll, a tenth of a second later.
    pub(crate) async fn read_all(&self, buffers: &[&wgpu::Buffer]) -> Result<Vec<Vec<u32>>, String> {
        use wgpu::BufferUsages as Usage;
        let size = buffers.iter().map(|buffer| buffer.size()).sum();
        let staging = self.gpu.buffer("staging", size, Usage::MAP_READ | Usage::COPY_DST);
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut at = 0;
        for buffer in buffers {
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, at, buffer.size());
            at += buffer.size();
        }
        self.gpu.queue.submit([encoder.finish()]);
        let words: Vec<u32> = self.gpu.read(&staging, (size / 4) as usize).await.map_err(text)?;
        let mut rest = &words[..];
        Ok(buffers
            .iter()
            .map(|buffer| rest.split_off(..(buffer.size() / 4) as usize).unwrap_or_default().to_vec())
            .collect())
    }
}

/// Numbers that look random and are the same everywhere (`SplitMix64`).
pub(crate) struct Random(u64);

impl Random {
    /// The sequence that belongs to `seed`, a case's name for instance.
    pub(crate) fn new(seed: &str) -> Self {
        Self(
            seed.bytes()
                .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)),
        )
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        (((self.next() >> 32) * u64::from(end)) >> 32) as u32
    }

    /// A byte.
    pub(crate) fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }

    /// A number in [-largest, largest).
    pub(crate) fn float(&mut self, largest: f32) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1 << 24) as f32;
        (2.0 * unit - 1.0) * largest
    }

    /// `n` of them.
    pub(crate) fn floats(&mut self, n: usize, largest: f32) -> Vec<f32> {
        (0..n).map(|_| self.float(largest)).collect()
    }
}
