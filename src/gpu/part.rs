//! Parts of buffers. What wgpu does for a dispatch grows with the number of buffers that there are, so that weights and
//! the KV cache share few.

use std::num::NonZero;

use super::{BINDING_ALIGNMENT, Gpu};

/// Bytes that a buffer has at most, unless one part alone has more: what every device binds at once.
const BLOCK: u64 = 128 << 20;

/// A part of a buffer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Part {
    /// The whole buffer.
    pub buffer: wgpu::Buffer,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
}

impl Part {
    /// What a bind group takes.
    #[must_use]
    pub fn binding(&self) -> wgpu::BufferBinding<'_> {
        wgpu::BufferBinding { buffer: &self.buffer, offset: self.offset, size: NonZero::new(self.size) }
    }

    /// `size` bytes of it from `offset` on.
    #[must_use]
    pub fn part(&self, offset: u64, size: u64) -> Self {
        Self { buffer: self.buffer.clone(), offset: self.offset + offset, size }
    }

    /// Writes `bytes` to it from `offset` on.
    pub fn write(&self, gpu: &Gpu, offset: u64, bytes: &[u8]) {
        gpu.queue.write_buffer(&self.buffer, self.offset + offset, bytes);
    }
}

/// All of a buffer.
#[must_use]
pub fn whole(buffer: &wgpu::Buffer) -> Part {
    Part { buffer: buffer.clone(), offset: 0, size: buffer.size() }
}

/// Buffers that are shared out.
#[derive(Debug, Default)]
pub struct Blocks {
    buffers: Vec<wgpu::Buffer>,
}

impl Blocks {
    /// Makes parts of `sizes` bytes, rounded up to whole 16, of zeros, in as few buffers as need be.
    pub fn allot(&mut self, gpu: &Gpu, label: &str, sizes: &[u64]) -> Vec<Part> {
        let size = |size: &u64| size.max(&1).next_multiple_of(16);
        let mut parts = Vec::with_capacity(sizes.len());
        let mut rest = sizes;
        while !rest.is_empty() {
            let mut offsets = Vec::new();
            let mut end = 0;
            for size in rest.iter().map(size) {
                let offset = u64::next_multiple_of(end, BINDING_ALIGNMENT);
                if !offsets.is_empty() && offset + size > BLOCK {
                    break;
                }
                offsets.push(offset);
                end = offset + size;
            }
            let buffer = gpu.storage(&format!("{label} {}", self.buffers.len()), end);
            let (mine, others) = rest.split_at(offsets.len());
            let part = |(offset, size)| Part { buffer: buffer.clone(), offset, size };
            parts.extend(offsets.into_iter().zip(mine.iter().map(size)).map(part));
            self.buffers.push(buffer);
            rest = others;
        }
        parts
    }

    /// A buffer for one thing alone.
    pub fn allot_one(&mut self, gpu: &Gpu, label: &str, size: u64) -> Part {
        let buffer = gpu.storage(label, size);
        self.buffers.push(buffer.clone());
        Part { size: buffer.size(), buffer, offset: 0 }
    }

    /// Bytes of all buffers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.buffers.iter().map(wgpu::Buffer::size).sum()
    }

    /// Frees their memory at once. Nothing that reads them may be submitted any more.
    pub fn destroy(&self, gpu: &Gpu) {
        self.buffers.iter().for_each(|buffer| gpu.destroy(buffer));
    }
}
