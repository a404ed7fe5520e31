//! Weight matrices on the device: in one piece or, where a binding would be too large, in several.

use super::Gpu;
use super::part::{Blocks, Part};
use crate::format::Dtype;
use crate::format::repack::{CHUNK, Layout};

/// Which rows of a matrix a piece has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PieceShape {
    /// How a row lies in the planes.
    pub layout: Layout,
    /// The piece's first row in the whole matrix.
    pub first_row: usize,
    /// Rows in the piece.
    pub n_rows: usize,
}

impl PieceShape {
    /// Bytes in both planes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        4 * self.n_rows as u64 * (self.layout.quants_row_words() + self.layout.aux_row_words()) as u64
    }
}

/// Rows of a matrix, in one dtype, in two planes (see [`crate::format::repack`]).
#[derive(Debug)]
pub struct Piece {
    /// Which rows.
    pub shape: PieceShape,
    /// `[n_rows, quants_row_words]` words.
    pub quants: Part,
    /// `[n_rows, aux_row_words]` words; absent for floats.
    aux: Option<Part>,
}

impl Piece {
    /// Pieces of zeros, which share `blocks`.
    #[must_use]
    pub fn allot(gpu: &Gpu, blocks: &mut Blocks, shapes: &[PieceShape]) -> Vec<Self> {
        let bytes = |shape: &PieceShape, row_words: usize| shape.n_rows as u64 * row_words as u64 * 4;
        let planes = |shape: &PieceShape| {
            let PieceShape { layout, .. } = *shape;
            let aux = (layout.aux_row_words() > 0).then(|| bytes(shape, layout.aux_row_words()));
            std::iter::once(bytes(shape, layout.quants_row_words())).chain(aux)
        };
        let sizes: Vec<u64> = shapes.iter().flat_map(planes).collect();
        let mut parts = blocks.allot(gpu, "weights", &sizes).into_iter();
        let piece = |shape: &PieceShape| {
            let quants = parts.next()?;
            let aux = if shape.layout.aux_row_words() > 0 { parts.next() } else { None };
            Some(Self { shape: *shape, quants, aux })
        };
        // There is a part for every plane.
        shapes.iter().filter_map(piece).collect()
    }

    /// The aux plane. Floats have none: any part will do for the binding they do not read.
    #[must_use]
    pub fn aux(&self) -> &Part {
        self.aux.as_ref().unwrap_or(&self.quants)
    }

    /// Writes whole rows from `row` on, given in both planes.
    pub fn write_rows(&self, gpu: &Gpu, row: usize, quants: &[u32], aux: &[u32]) {
        let at = |row_words: usize| row as u64 * row_words as u64 * 4;
        self.quants.write(gpu, at(self.shape.layout.quants_row_words()), bytemuck::cast_slice(quants));
        if let Some(plane) = &self.aux {
            plane.write(gpu, at(self.shape.layout.aux_row_words()), bytemuck::cast_slice(aux));
        }
    }
}

/// The most rows of `cols` weights of `dtype` that fit a piece; 0 if not even one does.
///
/// Bounded by a binding, and by the workgroups of a grid when each takes a single pair.
#[must_use]
pub fn max_piece_rows(limits: &wgpu::Limits, dtype: Dtype, cols: usize) -> usize {
    let layout = Layout::new(dtype, cols);
    let row_bytes = 4 * layout.quants_row_words().max(layout.aux_row_words()).max(1) as u64;
    let binding = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    let rows = usize::try_from(binding / row_bytes).unwrap_or(usize::MAX);
    rows.min(2 * limits.max_compute_workgroups_per_dimension as usize)
}

/// Elements from one row of an activation of width `cols` to the next: whole chunks, so that kernels need no
/// case for the last one. What is past `cols` is never written and stays 0.
#[must_use]
pub fn padded(cols: usize) -> usize {
    cols.next_multiple_of(CHUNK)
}
