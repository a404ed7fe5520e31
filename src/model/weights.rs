//! The model's weights on the device: which tensors of a file become which matrices, where their rows go,
//! and which are still missing.
//!
//! Q, K and V are one matrix, gate and up another, so that each takes one dispatch; where a file stores their
//! parts in different types, the matrix has a piece for each.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::config::{LayerWeight, ModelConfig, RopePairs, WeightId};
use crate::error::{Error, Result};
use crate::format::{Dtype, Header, TensorInfo};
use crate::gpu::Gpu;
use crate::gpu::tensor::{Piece, max_piece_rows, padded};

/// A matrix as the plan multiplies it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MatrixId {
    /// `[vocab_size, hidden_size]`, looked up by rows; also the output projection of a tied model.
    Embedding,
    /// `[vocab_size, hidden_size]`
    Output,
    /// Q, K and V of a layer, below one another.
    Qkv(usize),
    /// The attention's output projection.
    AttnOut(usize),
    /// Gate and up of a layer; in every piece rows of the gate, then the same rows of up.
    GateUp(usize),
    /// The gate alone, where up has another type.
    Gate(usize),
    /// Up alone.
    Up(usize),
    /// Down.
    Down(usize),
}

/// Where rows of a tensor go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// Rows of the tensor.
    pub rows: Range<usize>,
    /// The piece of the matrix.
    pub piece: usize,
    /// The row in the piece that the first becomes.
    pub piece_row: usize,
}

/// Where a tensor goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Destination {
    /// Nowhere: the result does not depend on it.
    Skip,
    /// A vector of f32.
    Norm(WeightId),
    /// Rows of a matrix.
    Rows {
        /// Which matrix.
        matrix: MatrixId,
        /// The tensor's rows, in order.
        spans: Vec<Span>,
        /// Rows of a head if its rotating halves are to be interleaved, else 1. No span begins within a head.
        unit: usize,
    },
}

/// Everything uploaded so far.
#[derive(Debug, Default)]
pub struct Weights {
    matrices: BTreeMap<MatrixId, Vec<Piece>>,
    norms: BTreeMap<WeightId, wgpu::Buffer>,
    seen: BTreeSet<WeightId>,
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
        self.matrices.values().flatten().map(Piece::bytes).sum::<u64>()
            + self.norms.values().map(wgpu::Buffer::size).sum::<u64>()
    }

    /// The types of all matrices, the one with most weights first.
    #[must_use]
    pub fn quantization(&self) -> String {
        let mut n_weights: Vec<(Dtype, usize)> = Vec::new();
        for piece in self.matrices.values().flatten() {
            let n = piece.n_rows * piece.layout.n_chunks;
            match n_weights.iter_mut().find(|(dtype, _)| *dtype == piece.layout.dtype) {
                Some((_, sum)) => *sum += n,
                None => n_weights.push((piece.layout.dtype, n)),
            }
        }
        n_weights.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        n_weights.iter().map(|(dtype, _)| dtype.name()).collect::<Vec<_>>().join(", ")
    }

    /// Checks that nothing is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] naming the first missing weight.
    pub fn check_complete(&self, config: &ModelConfig, file: &str) -> Result<()> {
        let missing: Vec<_> = config.required().into_iter().filter(|id| !self.seen.contains(id)).collect();
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(Error::Corrupt(format!(
                "{file}: {} of {} weights are missing, the first is {first}; is a shard missing?",
                missing.len(),
                config.required().len()
            ))),
        }
    }

    /// Allocates what the tensors of a file need; returns where each goes, in the order of the header.
    pub(crate) fn allocate(&mut self, gpu: &Gpu, config: &ModelConfig, header: &Header) -> Result<Vec<Destination>> {
        let file = &header.file;
        let mut found: BTreeMap<WeightId, (usize, Dtype)> = BTreeMap::new();
        for (index, tensor) in header.tensors.iter().enumerate() {
            let Some(id) = config.check_tensor(file, tensor)? else { continue };
            let is_norm = tensor.shape.len() == 1;
            if is_norm && !matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                let (name, dtype) = (&tensor.name, tensor.dtype.name());
                return Err(Error::UnsupportedModel(format!(
                    "{file}: tensor {name:?} is {dtype}; a norm must be F32, F16 or BF16"
                )));
            }
            if !self.seen.insert(id) {
                let name = &tensor.name;
                return Err(Error::Corrupt(format!("{file}: tensor {name:?} is weight {id}, which was there before")));
            }
            found.insert(id, (index, tensor.dtype));
        }

        let mut destinations = vec![Destination::Skip; header.tensors.len()];
        let mut group = Group { gpu, config, header, found: &found, destinations: &mut destinations };
        for (id, (index, _)) in &found {
            match id {
                WeightId::OutputNorm | WeightId::Layer(_, LayerWeight::AttnNorm | LayerWeight::FfnNorm) => {
                    let bytes = padded(config.hidden_size) as u64 * 4;
                    self.norms.insert(*id, gpu.storage(&id.to_string(), bytes));
                    group.destinations[*index] = Destination::Norm(*id);
                }
                WeightId::TokenEmbedding => group.stack(&mut self.matrices, MatrixId::Embedding, &[*id])?,
                WeightId::Output => group.stack(&mut self.matrices, MatrixId::Output, &[*id])?,
                WeightId::Layer(layer, LayerWeight::O) => {
                    group.stack(&mut self.matrices, MatrixId::AttnOut(*layer), &[*id])?;
                }
                WeightId::Layer(layer, LayerWeight::Down) => {
                    group.stack(&mut self.matrices, MatrixId::Down(*layer), &[*id])?;
                }
                // The parts of a fused matrix are placed below, once for all of them.
                WeightId::Layer(..) => {}
            }
        }
        for layer in 0..config.n_layers {
            let part = |weight| WeightId::Layer(layer, weight);
            let qkv = [LayerWeight::Q, LayerWeight::K, LayerWeight::V].map(part);
            group.stack(&mut self.matrices, MatrixId::Qkv(layer), &qkv)?;
            let [gate, up] = [LayerWeight::Gate, LayerWeight::Up].map(part);
            match (found.get(&gate), found.get(&up)) {
                (Some((gate, a)), Some((up, b))) if a == b => {
                    group.interleave(&mut self.matrices, MatrixId::GateUp(layer), *gate, *up)?;
                }
                _ => {
                    group.stack(&mut self.matrices, MatrixId::Gate(layer), &[gate])?;
                    group.stack(&mut self.matrices, MatrixId::Up(layer), &[up])?;
                }
            }
        }
        Ok(destinations)
    }

    /// Writes the values of a norm.
    pub(crate) fn write_norm(&self, gpu: &Gpu, id: WeightId, values: &[f32]) -> Result<()> {
        gpu.queue.write_buffer(self.norm(id)?, 0, bytemuck::cast_slice(values));
        Ok(())
    }
}

/// Neighbouring parts of a matrix that a file has in one type.
struct Run {
    dtype: Dtype,
    /// Tensors, and their rows in the matrix.
    members: Vec<(usize, Range<usize>)>,
}

/// The tensors of one file on their way to matrices.
struct Group<'a> {
    gpu: &'a Gpu,
    config: &'a ModelConfig,
    header: &'a Header,
    found: &'a BTreeMap<WeightId, (usize, Dtype)>,
    destinations: &'a mut [Destination],
}

impl Group<'_> {
    /// Places those of `parts` that the file has below one another in `matrix`, neighbours of one type in one
    /// piece.
    fn stack(
        &mut self,
        matrices: &mut BTreeMap<MatrixId, Vec<Piece>>,
        matrix: MatrixId,
        parts: &[WeightId],
    ) -> Result<()> {
        let mut runs: Vec<Run> = Vec::new();
        let mut next_row = 0;
        for id in parts {
            let n_rows = self.config.shape(*id)[0] as usize;
            let rows = next_row..next_row + n_rows;
            next_row = rows.end;
            let Some((index, dtype)) = self.found.get(id) else { continue };
            match runs.last_mut() {
                Some(run) if run.dtype == *dtype && run.members.last().is_some_and(|m| m.1.end == rows.start) => {
                    run.members.push((*index, rows));
                }
                _ => runs.push(Run { dtype: *dtype, members: vec![(*index, rows)] }),
            }
        }
        // A rotation never spans two pieces, nor a head that is to be permuted.
        let granule = if parts.len() > 1 { self.config.head_dim } else { 2 };
        for Run { dtype, members } in runs {
            let end = members.last().map_or(0, |member| member.1.end);
            let tensor = &self.header.tensors[members[0].0];
            let piece_rows = self.piece_rows(tensor, granule)?;
            let mut spans: Vec<Vec<Span>> = vec![Vec::new(); members.len()];
            let pieces = matrices.entry(matrix).or_default();
            let mut row = members[0].1.start;
            while row < end {
                let piece_end = end.min(row + piece_rows);
                for (member, spans) in members.iter().zip(&mut spans) {
                    let rows = member.1.start.max(row)..member.1.end.min(piece_end);
                    if !rows.is_empty() {
                        let (start, piece_row) = (member.1.start, rows.start - row);
                        let rows = rows.start - start..rows.end - start;
                        spans.push(Span { rows, piece: pieces.len(), piece_row });
                    }
                }
                let label = format!("{matrix:?}");
                pieces.push(Piece::new(self.gpu, &label, dtype, row, piece_end - row, tensor.cols() as usize));
                row = piece_end;
            }
            for ((index, _), spans) in members.into_iter().zip(spans) {
                let unit = self.unit(index);
                self.destinations[index] = Destination::Rows { matrix, spans, unit };
            }
        }
        Ok(())
    }

    /// Places gate and up, both of one type, so that every piece has the same rows of both.
    fn interleave(
        &mut self,
        matrices: &mut BTreeMap<MatrixId, Vec<Piece>>,
        matrix: MatrixId,
        gate: usize,
        up: usize,
    ) -> Result<()> {
        let tensor = &self.header.tensors[gate];
        let (n_rows, cols) = (tensor.rows() as usize, tensor.cols() as usize);
        let piece_rows = self.piece_rows(tensor, 2)? / 2;
        let pieces = matrices.entry(matrix).or_default();
        let mut spans = [Vec::new(), Vec::new()];
        let mut row = 0;
        while row < n_rows {
            let rows = row..n_rows.min(row + piece_rows);
            for (part, spans) in spans.iter_mut().enumerate() {
                spans.push(Span { rows: rows.clone(), piece: pieces.len(), piece_row: part * rows.len() });
            }
            let label = format!("{matrix:?}");
            pieces.push(Piece::new(self.gpu, &label, tensor.dtype, row, 2 * rows.len(), cols));
            row = rows.end;
        }
        for (index, spans) in [gate, up].into_iter().zip(spans) {
            self.destinations[index] = Destination::Rows { matrix, spans, unit: 1 };
        }
        Ok(())
    }

    /// The most rows of a piece with the rows of `tensor`, a multiple of `granule`.
    fn piece_rows(&self, tensor: &TensorInfo, granule: usize) -> Result<usize> {
        let limits = self.gpu.limits();
        let rows = max_piece_rows(&limits, tensor.dtype, tensor.cols() as usize) / granule * granule;
        if rows == 0 {
            return Err(Error::OutOfMemory(format!(
                "{}: {granule} rows of tensor {:?} do not fit a binding of this device, {} bytes",
                self.header.file, tensor.name, limits.max_storage_buffer_binding_size
            )));
        }
        Ok(rows)
    }

    fn unit(&self, index: usize) -> usize {
        let id = self.found.iter().find(|(_, (found, _))| *found == index).map(|(id, _)| *id);
        let rotates = matches!(id, Some(WeightId::Layer(_, LayerWeight::Q | LayerWeight::K)));
        if rotates && self.config.rope_pairs == RopePairs::Halves { self.config.head_dim } else { 1 }
    }
}
