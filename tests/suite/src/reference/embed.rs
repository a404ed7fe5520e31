//! Twin of `embed.wgsl`: rows of the embedding matrix.

use helium_webgpu::format::Dtype;

use super::Bounded;
use super::product::Matrix;

/// `E[id]`
pub(crate) fn embed(matrix: &Matrix, dtype: Dtype, id: usize) -> Vec<Bounded> {
    (0..matrix.cols).map(|col| matrix.weight(id, col, dtype)).collect()
}
