//! The model's weights on the device, as the blueprint places them.

use std::collections::BTreeMap;

use super::blueprint::{Blueprint, MatrixId, norm_bytes};
use crate::config::WeightId;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::tensor::Piece;

/// Everything uploaded so far.
#[derive(Debug, Default)]
pub struct Weights {
    matrices: BTreeMap<MatrixId, Vec<Piece>>,
    norms: BTreeMap<WeightId, wgpu::Buffer>,
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
    /// [`Error::Internal`] when it has not been loaded.
    pub fn norm(&self, id: WeightId) -> Result<&wgpu::Buffer> {
        self.norms.get(&id).ok_or_else(|| Error::Internal(format!("the norm {id} is not loaded")))
    }

    /// Bytes of all weights on the device.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.matrices.values().flatten().map(|piece| piece.shape.bytes()).sum::<u64>()
            + self.norms.values().map(wgpu::Buffer::size).sum::<u64>()
    }

    /// Allocates what the blueprint has and this has not yet.
    pub(crate) fn allocate(&mut self, gpu: &Gpu, blueprint: &Blueprint) -> Result<()> {
        for (id, shapes) in blueprint.pieces() {
            let pieces = self.matrices.entry(id).or_default();
            for shape in &shapes[pieces.len()..] {
                pieces.push(Piece::new(gpu, &format!("{id:?}"), *shape));
            }
        }
        let bytes = norm_bytes(blueprint.config()?);
        for id in blueprint.norms() {
            self.norms.entry(id).or_insert_with(|| gpu.storage(&id.to_string(), bytes));
        }
        Ok(())
    }

    /// Frees their memory at once. Nothing that reads them may be submitted any more.
    pub(crate) fn destroy(&self, gpu: &Gpu) {
        self.matrices.values().flatten().for_each(|piece| piece.destroy(gpu));
        self.norms.values().for_each(|norm| gpu.destroy(norm));
    }

    /// Writes the values of a norm.
    pub(crate) fn write_norm(&self, gpu: &Gpu, id: WeightId, values: &[f32]) -> Result<()> {
        gpu.queue.write_buffer(self.norm(id)?, 0, bytemuck::cast_slice(values));
        Ok(())
    }
}
