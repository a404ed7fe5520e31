//! The model's weights on the device, as the blueprint places them.

use std::collections::BTreeMap;

use super::blueprint::{Blueprint, MatrixId, norm_bytes};
use crate::config::{LayerWeight, ModelConfig, WeightId};
use crate::error::{Error, Result};
use crate::gpu::part::{Blocks, Part};
use crate::gpu::tensor::Piece;
use crate::gpu::{BINDING_ALIGNMENT, Gpu};

/// What products read besides matrices, in one buffer: the angles of `RoPE`, then the weights of all norms, the output's,
/// then two a layer.
#[derive(Debug)]
struct Tables {
    all: Part,
    /// Bytes before the norms.
    rope_bytes: u64,
    /// Bytes of a norm.
    norm_bytes: u64,
}

impl Tables {
    fn norm(&self, id: WeightId) -> Option<Part> {
        let index = match id {
            WeightId::OutputNorm => 0,
            WeightId::Layer(layer, LayerWeight::AttnNorm) => 2 * layer as u64 + 1,
            WeightId::Layer(layer, LayerWeight::FfnNorm) => 2 * layer as u64 + 2,
            _ => return None,
        };
        Some(self.all.part(self.rope_bytes + index * self.norm_bytes, self.norm_bytes))
    }
}

/// Everything uploaded so far.
#[derive(Debug, Default)]
pub struct Weights {
    blocks: Blocks,
    matrices: BTreeMap<MatrixId, Vec<Piece>>,
    tables: Option<Tables>,
}

impl Weights {
    /// The pieces of a matrix, in no particular order; empty if there is none.
    #[must_use]
    pub fn matrix(&self, id: MatrixId) -> &[Piece] {
        self.matrices.get(&id).map_or(&[], Vec::as_slice)
    }

    /// What the kernels call `tables`: the angles of `RoPE`, `[max_seq, head_dim / 2]` cos, sin, then all norms.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] before they are allocated.
    pub fn tables(&self) -> Result<&Part> {
        let tables = self.tables.as_ref().map(|tables| &tables.all);
        tables.ok_or_else(|| Error::Internal("there are no tables".into()))
    }

    /// A norm's weights among them, `[padded(hidden_size)]` f32.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when there is none.
    pub fn norm(&self, id: WeightId) -> Result<Part> {
        let norm = self.tables.as_ref().and_then(|tables| tables.norm(id));
        norm.ok_or_else(|| Error::Internal(format!("there is no norm {id}")))
    }

    /// Bytes of all weights on the device.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.matrices.values().flatten().map(|piece| piece.shape.bytes()).sum::<u64>()
            + self.tables.as_ref().map_or(0, |tables| tables.all.size - tables.rope_bytes)
    }

    /// Allocates what the blueprint has and this has not yet.
    pub(crate) fn allocate(&mut self, gpu: &Gpu, blueprint: &Blueprint) -> Result<()> {
        let news = blueprint.pieces().flat_map(|(id, shapes)| {
            let n_old = self.matrix(id).len();
            shapes[n_old..].iter().map(move |shape| (id, *shape))
        });
        let (ids, shapes): (Vec<_>, Vec<_>) = news.unzip();
        for (id, piece) in ids.into_iter().zip(Piece::allot(gpu, &mut self.blocks, &shapes)) {
            self.matrices.entry(id).or_default().push(piece);
        }
        if self.tables.is_none() {
            let (config, max_seq) = (blueprint.config()?, blueprint.context_length()?);
            let norm_bytes = norm_bytes(config);
            let rope_bytes = rope_bytes(config, max_seq);
            let bytes = rope_bytes + (2 * config.n_layers as u64 + 1) * norm_bytes;
            let all = self.blocks.allot_one(gpu, "tables", bytes);
            all.write(gpu, 0, bytemuck::cast_slice(&rope_table(config, max_seq)));
            self.tables = Some(Tables { all, rope_bytes, norm_bytes });
        }
        Ok(())
    }

    /// Frees their memory at once. Nothing that reads them may be submitted any more.
    pub(crate) fn destroy(&self, gpu: &Gpu) {
        self.blocks.destroy(gpu);
    }

    /// Writes the values of a norm.
    pub(crate) fn write_norm(&self, gpu: &Gpu, id: WeightId, values: &[f32]) -> Result<()> {
        self.norm(id)?.write(gpu, 0, bytemuck::cast_slice(values));
        Ok(())
    }
}

/// Bytes of the angles of `max_seq` positions, to where a binding may begin.
pub(super) fn rope_bytes(config: &ModelConfig, max_seq: usize) -> u64 {
    ((max_seq * config.head_dim * 4) as u64).next_multiple_of(BINDING_ALIGNMENT)
}

/// cos and sin of `pos · theta^(−2j / head_dim)`: `[max_seq, head_dim / 2, 2]`, computed in f64 since a large
/// angle leaves an f32 few digits.
fn rope_table(config: &ModelConfig, max_seq: usize) -> Vec<f32> {
    let frequencies: Vec<f64> =
        (0..config.head_dim / 2).map(|j| config.rope_theta.powf(-2.0 * j as f64 / config.head_dim as f64)).collect();
    (0..max_seq)
        .flat_map(|pos| frequencies.iter().map(move |frequency| pos as f64 * frequency))
        .flat_map(|angle| [angle.cos() as f32, angle.sin() as f32])
        .collect()
}
