//! Weight matrices on the device: in one piece or, where a binding would be too large, in several.

use super::Gpu;
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
    pub quants: wgpu::Buffer,
    /// `[n_rows, aux_row_words]` words; absent for floats.
    aux: Option<wgpu::Buffer>,
}

impl Piece {
    /// A piece of zeros.
    #[must_use]
    pub fn new(gpu: &Gpu, label: &str, shape: PieceShape) -> Self {
        let PieceShape { layout, n_rows, .. } = shape;
        let plane = |row_words: usize, plane: &str| {
            gpu.storage(&format!("{label} {} {plane}", layout.dtype.name()), n_rows as u64 * row_words as u64 * 4)
        };
        let quants = plane(layout.quants_row_words(), "quants");
        let aux = (layout.aux_row_words() > 0).then(|| plane(layout.aux_row_words(), "aux"));
        Self { shape, quants, aux }
    }

    /// The aux plane. Floats have none: any buffer will do for the binding they do not read.
    #[must_use]
    pub fn aux(&self) -> &wgpu::Buffer {
        self.aux.as_ref().unwrap_or(&self.quants)
    }

    /// Frees its memory at once. Nothing that reads it may be submitted any more.
    pub fn destroy(&self, gpu: &Gpu) {
        gpu.destroy(&self.quants);
        if let Some(aux) = &self.aux {
            gpu.destroy(aux);
        }
    }

    /// Writes whole rows from `row` on, given in both planes.
    pub fn write_rows(&self, gpu: &Gpu, row: usize, quants: &[u32], aux: &[u32]) {
        let at = |row_words: usize| row as u64 * row_words as u64 * 4;
        gpu.queue.write_buffer(&self.quants, at(self.shape.layout.quants_row_words()), bytemuck::cast_slice(quants));
        if let Some(plane) = &self.aux {
            gpu.queue.write_buffer(plane, at(self.shape.layout.aux_row_words()), bytemuck::cast_slice(aux));
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
