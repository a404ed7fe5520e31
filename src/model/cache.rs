//! The KV cache: static buffers on the device, and which tokens are in them.

use super::forward::steps_bytes;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::gpu::part::{Blocks, Part};
use crate::gpu::{BINDING_ALIGNMENT, Gpu};

/// Keys (after `RoPE`) and values of one layer.
#[derive(Debug)]
pub struct LayerCache {
    /// Those, then these.
    pub both: Part,
    /// `[n_kv_heads, room, head_vecs / 2]` vec4 of eight f16.
    pub k: Part,
    /// The same shape.
    pub v: Part,
}

/// The cache of all layers, and the tokens whose keys and values it holds.
#[derive(Debug)]
pub struct Cache {
    blocks: Blocks,
    layers: Vec<LayerCache>,
    max_seq: usize,
    ids: Vec<u32>,
}

impl Cache {
    /// An empty cache for `max_seq` tokens, which was checked to fit.
    #[must_use]
    pub fn new(gpu: &Gpu, config: &ModelConfig, max_seq: usize) -> Self {
        let bytes = plane_bytes(config, max_seq);
        let mut blocks = Blocks::default();
        let layer = |both: Part| {
            let (k, v) = (both.part(0, bytes), both.part(bytes, bytes));
            LayerCache { both, k, v }
        };
        let parts = blocks.allot(gpu, "kv_cache", &vec![2 * bytes; config.n_layers]);
        Self { layers: parts.into_iter().map(layer).collect(), blocks, max_seq, ids: Vec::new() }
    }

    /// Checks that a cache for `max_seq` tokens fits a device.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] when what a layer has exceeds a binding, or a step for each token a buffer.
    pub fn check_fits(limits: &wgpu::Limits, config: &ModelConfig, max_seq: usize) -> Result<()> {
        let steps = steps_bytes(max_seq);
        if steps > limits.max_buffer_size {
            let most = limits.max_buffer_size / BINDING_ALIGNMENT - 1;
            return Err(Error::OutOfMemory(format!(
                "a context of {max_seq} tokens needs a buffer of {steps} bytes, but one of this device holds {}; ask for a \
                 context of at most {most}",
                limits.max_buffer_size
            )));
        }
        let limit = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let bytes = 2 * plane_bytes(config, max_seq);
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::OutOfMemory(format!(
            "the KV cache of a context of {max_seq} tokens takes {bytes} bytes a layer, but a binding of this device \
             holds {limit}; ask for a context of at most {}",
            limit / 2 / row_bytes(config) / ROOM_MULTIPLE as u64 * ROOM_MULTIPLE as u64
        )))
    }

    /// Bytes of a cache for `max_seq` tokens.
    #[must_use]
    pub fn bytes_of(config: &ModelConfig, max_seq: usize) -> u64 {
        2 * config.n_layers as u64 * plane_bytes(config, max_seq)
    }

    /// Frees their memory at once. Nothing that reads them may be submitted any more.
    pub(crate) fn destroy(&self, gpu: &Gpu) {
        self.blocks.destroy(gpu);
    }

    /// The buffers, by layer.
    #[must_use]
    pub fn layers(&self) -> &[LayerCache] {
        &self.layers
    }

    /// Tokens it holds at most.
    #[must_use]
    pub fn max_seq(&self) -> usize {
        self.max_seq
    }

    /// Positions it has room for: from the first of a head to that of the next.
    #[must_use]
    pub fn room(&self) -> usize {
        room(self.max_seq)
    }

    /// Tokens it holds.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Bytes of all buffers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blocks.bytes()
    }

    /// Notes tokens that a submitted step appends.
    pub fn extend(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
    }

    /// Notes which token a submitted step appended, once that is known; one that was forgotten meanwhile is passed
    /// over.
    pub fn set(&mut self, pos: usize, id: u32) {
        if let Some(unknown) = self.ids.get_mut(pos) {
            *unknown = id;
        }
    }

    /// Forgets all tokens but the first `n_tokens`. Nothing is cleared: a position is written before it is read.
    pub fn truncate(&mut self, n_tokens: usize) {
        self.ids.truncate(n_tokens);
    }
}

/// A multiple of that many positions ends where a binding may begin, since a head takes whole vec4.
const ROOM_MULTIPLE: usize = BINDING_ALIGNMENT as usize / 16;

fn room(max_seq: usize) -> usize {
    max_seq.next_multiple_of(ROOM_MULTIPLE)
}

/// Bytes of the keys of a cache for `max_seq` tokens in a layer, and of the values: these follow those without a gap, as
/// the kernel that writes both has it.
fn plane_bytes(config: &ModelConfig, max_seq: usize) -> u64 {
    row_bytes(config) * room(max_seq) as u64
}

/// Bytes of a token's keys in a layer, and of its values.
fn row_bytes(config: &ModelConfig) -> u64 {
    (config.n_kv_heads * head_vecs(config) * 8) as u64
}

/// Vec4 of f32 in a head, padded to whole vec4 of f16 in the cache.
#[must_use]
pub(super) fn head_vecs(config: &ModelConfig) -> usize {
    config.head_dim.next_multiple_of(8) / 4
}
