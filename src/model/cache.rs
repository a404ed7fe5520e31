//! The KV cache: static buffers on the device, and which tokens are in them.

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::gpu::Gpu;

/// Keys (after `RoPE`) and values of one layer.
#[derive(Debug)]
pub struct LayerCache {
    /// `[n_kv_heads, max_seq, head_vecs / 2]` vec4 of eight f16.
    pub k: wgpu::Buffer,
    /// The same shape.
    pub v: wgpu::Buffer,
}

/// The cache of all layers, and the tokens whose keys and values it holds.
#[derive(Debug)]
pub struct Cache {
    layers: Vec<LayerCache>,
    max_seq: usize,
    ids: Vec<u32>,
}

impl Cache {
    /// An empty cache for `max_seq` tokens, which was checked to fit.
    #[must_use]
    pub fn new(gpu: &Gpu, config: &ModelConfig, max_seq: usize) -> Self {
        let bytes = row_bytes(config) * max_seq as u64;
        let layers = (0..config.n_layers)
            .map(|layer| LayerCache {
                k: gpu.storage(&format!("k_cache {layer}"), bytes),
                v: gpu.storage(&format!("v_cache {layer}"), bytes),
            })
            .collect();
        Self { layers, max_seq, ids: Vec::new() }
    }

    /// Checks that a cache for `max_seq` tokens fits a device.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] when a layer's keys exceed a binding.
    pub fn check_fits(limits: &wgpu::Limits, config: &ModelConfig, max_seq: usize) -> Result<()> {
        let limit = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let (row_bytes, bytes) = (row_bytes(config), row_bytes(config) * max_seq as u64);
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::OutOfMemory(format!(
            "the KV cache of a context of {max_seq} tokens takes {bytes} bytes a layer, but a binding of this device \
             holds {limit}; ask for a context of at most {}",
            limit / row_bytes
        )))
    }

    /// Bytes of a cache for `max_seq` tokens.
    #[must_use]
    pub fn bytes_of(config: &ModelConfig, max_seq: usize) -> u64 {
        2 * config.n_layers as u64 * row_bytes(config) * max_seq as u64
    }

    /// Frees their memory at once. Nothing that reads them may be submitted any more.
    pub(crate) fn destroy(&self, gpu: &Gpu) {
        self.layers.iter().flat_map(|layer| [&layer.k, &layer.v]).for_each(|buffer| gpu.destroy(buffer));
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

    /// Tokens it holds.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Bytes of all buffers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.k.size() + layer.v.size()).sum()
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

/// Bytes of a token's keys in a layer, and of its values.
fn row_bytes(config: &ModelConfig) -> u64 {
    (config.n_kv_heads * head_vecs(config) * 8) as u64
}

/// Vec4 of f32 in a head, padded to whole vec4 of f16 in the cache.
#[must_use]
pub(super) fn head_vecs(config: &ModelConfig) -> usize {
    config.head_dim.next_multiple_of(8) / 4
}
