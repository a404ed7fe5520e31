//! The model's weights on the device, as the blueprint places them.

use std::collections::BTreeMap;

use std::num::NonZero;

use super::blueprint::{Blueprint, MatrixId, norm_bytes};
use crate::config::{LayerWeight, WeightId};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::tensor::Piece;

/// The weights of all norms, in one buffer.
#[derive(Debug)]
struct Norms {
    /// Of f32: the output's, then two a layer.
    buffer: wgpu::Buffer,
    /// Bytes of one.
    bytes: u64,
}

impl Norms {
    fn offset(&self, id: WeightId) -> Option<u64> {
        let index = match id {
            WeightId::OutputNorm => 0,
            WeightId::Layer(layer, LayerWeight::AttnNorm) => 2 * layer as u64 + 1,
            WeightId::Layer(layer, LayerWeight::FfnNorm) => 2 * layer as u64 + 2,
            _ => return None,
        };
        Some(index * self.bytes)
    }
}

/// Everything uploaded so far.
#[derive(Debug, Default)]
pub struct Weights {
    matrices: BTreeMap<MatrixId, Vec<Piece>>,
    norms: Option<Norms>,
}

impl Weights {
    /// The pieces of a matrix, in no particular order; empty if there is none.
    #[must_use]
    pub fn matrix(&self, id: MatrixId) -> &[Piece] {
        self.matrices.get(&id).map_or(&[], Vec::as_slice)
    }

    /// A norm's weights, `[padded(hidden_size)]` f32.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when there is none.
    pub fn norm(&self, id: WeightId) -> Result<wgpu::BufferBinding<'_>> {
        let at = self.norms.as_ref().and_then(|norms| Some((norms, norms.offset(id)?)));
        let (norms, offset) = at.ok_or_else(|| Error::Internal(format!("there is no norm {id}")))?;
        Ok(wgpu::BufferBinding { buffer: &norms.buffer, offset, size: NonZero::new(norms.bytes) })
    }

    /// Bytes of all weights on the device.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.matrices.values().flatten().map(|piece| piece.shape.bytes()).sum::<u64>()
            + self.norms.as_ref().map_or(0, |norms| norms.buffer.size())
    }

    /// Allocates what the blueprint has and this has not yet.
    pub(crate) fn allocate(&mut self, gpu: &Gpu, blueprint: &Blueprint) -> Result<()> {
        for (id, shapes) in blueprint.pieces() {
            let pieces = self.matrices.entry(id).or_default();
            for shape in &shapes[pieces.len()..] {
                pieces.push(Piece::new(gpu, &format!("{id:?}"), *shape));
            }
        }
        let config = blueprint.config()?;
        let bytes = norm_bytes(config);
        let n_norms = 2 * config.n_layers as u64 + 1;
        self.norms.get_or_insert_with(|| Norms { buffer: gpu.storage("norms", n_norms * bytes), bytes });
        Ok(())
    }

    /// Frees their memory at once. Nothing that reads them may be submitted any more.
    pub(crate) fn destroy(&self, gpu: &Gpu) {
        self.matrices.values().flatten().for_each(|piece| piece.destroy(gpu));
        self.norms.iter().for_each(|norms| gpu.destroy(&norms.buffer));
    }

    /// Writes the values of a norm.
    pub(crate) fn write_norm(&self, gpu: &Gpu, id: WeightId, values: &[f32]) -> Result<()> {
        let norm = self.norm(id)?;
        gpu.queue.write_buffer(norm.buffer, norm.offset, bytemuck::cast_slice(values));
        Ok(())
    }
}
