//! Uniforms that never change, many to a buffer: what wgpu does for every step grows with the number of buffers.

use super::part::Part;
use super::{BINDING_ALIGNMENT, Gpu};

/// Bytes of a buffer.
const BLOCK: usize = 128 * BINDING_ALIGNMENT as usize;

/// Uniforms that are being laid out; [`Uniforms::write`] must follow before they are used.
#[derive(Debug)]
pub struct Uniforms<'a> {
    gpu: &'a Gpu,
    buffers: Vec<wgpu::Buffer>,
    /// What the last buffer is to hold.
    bytes: Vec<u8>,
}

impl<'a> Uniforms<'a> {
    /// None yet.
    #[must_use]
    pub fn new(gpu: &'a Gpu) -> Self {
        Self { gpu, buffers: vec![block(gpu)], bytes: Vec::new() }
    }

    /// Adds one that holds `value`.
    pub fn add<T: bytemuck::Pod>(&mut self, value: &T) -> Part {
        let value = bytemuck::bytes_of(value);
        if self.bytes.len() + value.len() > BLOCK {
            self.write();
            self.bytes.clear();
            self.buffers.push(block(self.gpu));
        }
        let buffer = self.last().clone();
        let part = Part { buffer, offset: self.bytes.len() as u64, size: value.len() as u64 };
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(BINDING_ALIGNMENT as usize), 0);
        part
    }

    /// Writes them to the device.
    pub fn write(&self) {
        self.gpu.queue.write_buffer(self.last(), 0, &self.bytes);
    }

    /// Frees their memory at once.
    pub fn destroy(&self) {
        self.buffers.iter().for_each(|buffer| self.gpu.destroy(buffer));
    }

    fn last(&self) -> &wgpu::Buffer {
        // There is one from the beginning.
        &self.buffers[self.buffers.len() - 1]
    }
}

fn block(gpu: &Gpu) -> wgpu::Buffer {
    gpu.buffer("uniforms", BLOCK as u64, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)
}
