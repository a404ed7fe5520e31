//! What a model will be on a device, from the headers of its files alone: its configuration, where every tensor
//! goes, and how much memory that takes. Nothing is allocated here.
//!
//! Q, K and V are one matrix, gate and up another, so that each takes one dispatch; where a file stores their
//! parts in different types, the matrix has a piece for each.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::cache::Cache;
use super::forward::activation_bytes;
use super::tuning::Kernels;
use crate::config::{LayerWeight, ModelConfig, RopePairs, WeightId};
use crate::error::{Error, Result};
use crate::format::gguf::Metadata;
use crate::format::repack::Layout;
use crate::format::{Dtype, Header, TensorInfo};
use crate::gpu::BINDING_ALIGNMENT;
use crate::gpu::tensor::{PieceShape, max_piece_rows, padded};
use crate::recipe::Recipe;

/// The context's length where the caller names none and the model allows it.
const DEFAULT_CONTEXT: usize = 4096;

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

impl MatrixId {
    /// The same matrix in the first layer, for what does not differ between layers.
    #[must_use]
    pub(super) fn of_first_layer(self) -> Self {
        match self {
            Self::Embedding | Self::Output => self,
            Self::Qkv(_) => Self::Qkv(0),
            Self::AttnOut(_) => Self::AttnOut(0),
            Self::GateUp(_) => Self::GateUp(0),
            Self::Gate(_) => Self::Gate(0),
            Self::Up(_) => Self::Up(0),
            Self::Down(_) => Self::Down(0),
        }
    }
}

/// Where rows of a tensor go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    /// Rows of the tensor.
    pub rows: Range<usize>,
    /// The piece of the matrix.
    pub piece: usize,
    /// The row in the piece that the first becomes.
    pub piece_row: usize,
}

/// Where a tensor goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
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
        /// What the weights become: another type than the file's where floats are quantised.
        dtype: Dtype,
    },
}

/// How to load a model.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoadOptions {
    /// Tokens of context; as many as the model was trained for up to 4096 if absent.
    pub context_length: Option<usize>,
    /// What to quantise matrices of floats to; as they are in the file if absent.
    pub quantize: Option<Recipe>,
    /// Which kernels may be used.
    pub kernels: Kernels,
}

/// Bytes that a model takes on the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// Of the weights.
    pub weights: u64,
    /// Of the KV cache.
    pub kv: u64,
    /// Of everything between.
    pub activations: u64,
}

impl Memory {
    /// All together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights + self.kv + self.activations
    }
}

/// A model as its headers describe it, placed on a device with certain limits.
#[derive(Debug)]
pub struct Blueprint {
    limits: wgpu::Limits,
    options: LoadOptions,
    config: Option<ModelConfig>,
    metadata: Option<Metadata>,
    pieces: BTreeMap<MatrixId, Vec<PieceShape>>,
    seen: BTreeSet<WeightId>,
    last_file: String,
}

impl Blueprint {
    /// Nothing yet.
    #[must_use]
    pub fn new(limits: wgpu::Limits, options: LoadOptions) -> Self {
        Self {
            limits,
            options,
            config: None,
            metadata: None,
            pieces: BTreeMap::new(),
            seen: BTreeSet::new(),
            last_file: "the model".into(),
        }
    }

    /// Gives the configuration of the safetensors files to come.
    pub fn set_config(&mut self, config: ModelConfig) {
        self.config = Some(config);
    }

    /// A GGUF file's metadata, once its header was added.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// The configuration: that given, or read from a GGUF header.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where there is none.
    pub fn config(&self) -> Result<&ModelConfig> {
        self.config.as_ref().ok_or_else(|| Error::Corrupt(format!("{}: no configuration was found", self.last_file)))
    }

    /// Tokens of context.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] where more were asked for than the model has, or none; and without a configuration.
    pub fn context_length(&self) -> Result<usize> {
        let longest = self.config()?.context_length;
        match self.options.context_length {
            None => Ok(longest.min(DEFAULT_CONTEXT)),
            Some(n) if n > 0 && n <= longest => Ok(n),
            Some(n) => Err(Error::InvalidArgument(format!(
                "a context of {n} tokens was asked for; this model takes 1 to {longest}"
            ))),
        }
    }

    /// The pieces of all matrices.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (MatrixId, &[PieceShape])> {
        self.pieces.iter().map(|(id, pieces)| (*id, pieces.as_slice()))
    }

    /// The norms.
    pub(crate) fn norms(&self) -> impl Iterator<Item = WeightId> {
        self.seen.iter().copied().filter(|id| is_norm(*id))
    }

    /// The types of all matrices, the one with most weights first.
    #[must_use]
    pub(crate) fn dtypes(&self) -> Vec<Dtype> {
        let mut n_weights: Vec<(Dtype, usize)> = Vec::new();
        for piece in self.pieces.values().flatten() {
            let n = piece.n_rows * piece.layout.n_chunks;
            match n_weights.iter_mut().find(|(dtype, _)| *dtype == piece.layout.dtype) {
                Some((_, sum)) => *sum += n,
                None => n_weights.push((piece.layout.dtype, n)),
            }
        }
        n_weights.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        n_weights.into_iter().map(|(dtype, _)| dtype).collect()
    }

    /// The names of all types of matrices, the one with most weights first, such as `"Q4_K, Q6_K"`.
    #[must_use]
    pub fn quantization(&self) -> String {
        self.dtypes().iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(", ")
    }

    /// Which kernels may be used.
    pub(crate) fn kernels(&self) -> Kernels {
        self.options.kernels
    }

    /// The memory that what was added so far takes, on a GPU or a software adapter.
    ///
    /// # Errors
    ///
    /// As [`Blueprint::context_length`].
    pub fn memory(&self, is_software: bool) -> Result<Memory> {
        let (config, max_seq) = (self.config()?, self.context_length()?);
        let matrices: u64 = self.pieces.values().flatten().map(PieceShape::bytes).sum();
        let norms = self.norms().count() as u64 * norm_bytes(config);
        Ok(Memory {
            weights: matrices + norms,
            kv: Cache::bytes_of(config, max_seq),
            activations: activation_bytes(config, max_seq, is_software),
        })
    }

    /// Checks that no weight is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] naming the first missing weight, or without a configuration.
    pub fn check_complete(&self) -> Result<()> {
        let config = self.config()?;
        let missing: Vec<_> = config.required().into_iter().filter(|id| !self.seen.contains(id)).collect();
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(Error::Corrupt(format!(
                "{}: {} of {} weights are missing, the first is {first}; is a shard missing?",
                self.last_file,
                missing.len(),
                config.required().len()
            ))),
        }
    }

    /// Adds a file by its header; returns its tensors with where each goes, in the order of the header.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] and [`Error::UnsupportedModel`] for tensors that do not belong to the model,
    /// [`Error::OutOfMemory`] for what no binding of the device holds, [`Error::InvalidArgument`] for a context that
    /// the model does not have.
    pub fn add(&mut self, mut header: Header) -> Result<Vec<(TensorInfo, Destination)>> {
        header.file.clone_into(&mut self.last_file);
        // Only GGUF files carry metadata.
        if !header.metadata.is_empty() && self.metadata.is_none() {
            self.config = Some(ModelConfig::from_gguf(&header)?);
            self.metadata = Some(std::mem::take(&mut header.metadata));
        }
        let Some(config) = self.config.clone() else {
            return Err(Error::InvalidArgument(format!(
                "{}: safetensors hold no configuration; give the config.json that belongs to them",
                header.file
            )));
        };
        Cache::check_fits(&self.limits, &config, self.context_length()?)?;
        let found = self.find(&config, &header)?;
        let mut destinations = vec![Destination::Skip; header.tensors.len()];
        let mut place = Place {
            limits: &self.limits,
            config: &config,
            header: &header,
            found: &found,
            pieces: &mut self.pieces,
            destinations: &mut destinations,
        };
        for (id, (index, _)) in &found {
            match id {
                _ if is_norm(*id) => place.destinations[*index] = Destination::Norm(*id),
                WeightId::TokenEmbedding => place.stack(MatrixId::Embedding, &[*id])?,
                WeightId::Output => place.stack(MatrixId::Output, &[*id])?,
                WeightId::Layer(layer, LayerWeight::O) => place.stack(MatrixId::AttnOut(*layer), &[*id])?,
                WeightId::Layer(layer, LayerWeight::Down) => place.stack(MatrixId::Down(*layer), &[*id])?,
                // The parts of a fused matrix are placed below, once for all of them.
                _ => {}
            }
        }
        for layer in 0..config.n_layers {
            let part = |weight| WeightId::Layer(layer, weight);
            place.stack(MatrixId::Qkv(layer), &[LayerWeight::Q, LayerWeight::K, LayerWeight::V].map(part))?;
            let [gate, up] = [LayerWeight::Gate, LayerWeight::Up].map(part);
            match (found.get(&gate), found.get(&up)) {
                (Some((gate, a)), Some((up, b))) if a == b => {
                    place.interleave(MatrixId::GateUp(layer), *a, *gate, *up)?;
                }
                _ => {
                    place.stack(MatrixId::Gate(layer), &[gate])?;
                    place.stack(MatrixId::Up(layer), &[up])?;
                }
            }
        }
        Ok(header.tensors.into_iter().zip(destinations).collect())
    }

    /// The weights among a file's tensors: their places in the header, and what type they are to become.
    fn find(&mut self, config: &ModelConfig, header: &Header) -> Result<BTreeMap<WeightId, (usize, Dtype)>> {
        let file = &header.file;
        let mut found = BTreeMap::new();
        for (index, tensor) in header.tensors.iter().enumerate() {
            let Some(id) = config.check_tensor(file, tensor)? else { continue };
            let (name, is_float) = (&tensor.name, tensor.dtype.is_float());
            if is_norm(id) && !is_float {
                let dtype = tensor.dtype.name();
                return Err(Error::UnsupportedModel(format!(
                    "{file}: tensor {name:?} is {dtype}; a norm must be F32, F16 or BF16"
                )));
            }
            if !self.seen.insert(id) {
                return Err(Error::Corrupt(format!("{file}: tensor {name:?} is weight {id}, which was there before")));
            }
            let dtype = match self.options.quantize {
                Some(recipe) if is_float => recipe.dtype(config, id, tensor),
                _ => tensor.dtype,
            };
            found.insert(id, (index, dtype));
        }
        Ok(found)
    }
}

/// Bytes that a norm's weights take on the device, where they follow one another in a buffer.
pub(super) fn norm_bytes(config: &ModelConfig) -> u64 {
    (padded(config.hidden_size) as u64 * 4).next_multiple_of(BINDING_ALIGNMENT)
}

fn is_norm(id: WeightId) -> bool {
    matches!(id, WeightId::OutputNorm | WeightId::Layer(_, LayerWeight::AttnNorm | LayerWeight::FfnNorm))
}

/// Neighbouring parts of a matrix that have one type.
struct Run {
    dtype: Dtype,
    /// Tensors, and their rows in the matrix.
    members: Vec<(usize, Range<usize>)>,
}

/// The tensors of one file on their way to matrices.
struct Place<'a> {
    limits: &'a wgpu::Limits,
    config: &'a ModelConfig,
    header: &'a Header,
    found: &'a BTreeMap<WeightId, (usize, Dtype)>,
    pieces: &'a mut BTreeMap<MatrixId, Vec<PieceShape>>,
    destinations: &'a mut [Destination],
}

impl Place<'_> {
    /// Places those of `parts` that the file has below one another in `matrix`, neighbours of one type in one
    /// piece.
    fn stack(&mut self, matrix: MatrixId, parts: &[WeightId]) -> Result<()> {
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
            let piece_rows = self.piece_rows(tensor, dtype, granule)?;
            let layout = Layout::new(dtype, tensor.cols() as usize);
            let mut spans: Vec<Vec<Span>> = vec![Vec::new(); members.len()];
            let pieces = self.pieces.entry(matrix).or_default();
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
                pieces.push(PieceShape { layout, first_row: row, n_rows: piece_end - row });
                row = piece_end;
            }
            for ((index, _), spans) in members.into_iter().zip(spans) {
                let unit = self.unit(index);
                self.destinations[index] = Destination::Rows { matrix, spans, unit, dtype };
            }
        }
        Ok(())
    }

    /// Places gate and up, both of one type, so that every piece has the same rows of both.
    fn interleave(&mut self, matrix: MatrixId, dtype: Dtype, gate: usize, up: usize) -> Result<()> {
        let tensor = &self.header.tensors[gate];
        let n_rows = tensor.rows() as usize;
        let layout = Layout::new(dtype, tensor.cols() as usize);
        let piece_rows = self.piece_rows(tensor, dtype, 2)? / 2;
        let pieces = self.pieces.entry(matrix).or_default();
        let mut spans = [Vec::new(), Vec::new()];
        let mut row = 0;
        while row < n_rows {
            let rows = row..n_rows.min(row + piece_rows);
            for (part, spans) in spans.iter_mut().enumerate() {
                spans.push(Span { rows: rows.clone(), piece: pieces.len(), piece_row: part * rows.len() });
            }
            pieces.push(PieceShape { layout, first_row: row, n_rows: 2 * rows.len() });
            row = rows.end;
        }
        for (index, spans) in [gate, up].into_iter().zip(spans) {
            self.destinations[index] = Destination::Rows { matrix, spans, unit: 1, dtype };
        }
        Ok(())
    }

    /// The most rows of a piece with the rows of `tensor`, a multiple of `granule`.
    fn piece_rows(&self, tensor: &TensorInfo, dtype: Dtype, granule: usize) -> Result<usize> {
        let rows = max_piece_rows(self.limits, dtype, tensor.cols() as usize) / granule * granule;
        if rows == 0 {
            return Err(Error::OutOfMemory(format!(
                "{}: {granule} rows of tensor {:?} do not fit a binding of this device, {} bytes",
                self.header.file, tensor.name, self.limits.max_storage_buffer_binding_size
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
