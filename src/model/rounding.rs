//! x rounded to eight bits for [`Core::RowsI8`](crate::gpu::kernel::Core::RowsI8): where it lies, and who rounds it.

use bytemuck::{Pod, Zeroable};

use super::forward::ProductParams;
use crate::gpu::Gpu;
use crate::gpu::kernel::{Kernel, ROWS_TOKENS};
use crate::gpu::plan::{Dispatch, Extent, Work};

/// Columns that have a scale together.
const SCALE_COLS: usize = 16;

/// `Params` of `round.wgsl`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct RoundParams {
    n_chunks: u32,
    x_stride: u32,
    cols: u32,
    eps: f32,
}

impl RoundParams {
    /// Those of the x of a product.
    pub(super) fn new(product: &ProductParams) -> Self {
        let ProductParams { n_chunks, x_stride, cols, eps, .. } = *product;
        Self { n_chunks, x_stride, cols, eps }
    }
}

/// Bytes of `n_tokens` rounded rows of `cols`: of the words, and of their scales. Both are of whole blocks of tokens.
pub(super) fn rounded_bytes(n_tokens: usize, cols: usize) -> [u64; 2] {
    let n_tokens = n_tokens.next_multiple_of(ROWS_TOKENS as usize);
    [2 * n_tokens * cols, 4 * n_tokens * cols.div_ceil(SCALE_COLS)].map(|bytes| bytes as u64)
}

/// The dispatch that rounds x. `parts`: the step, [`RoundParams`], x, the norm (not read without `has_norm`), and what
/// is written, the words and their scales.
pub(super) fn round<'a>(
    gpu: &Gpu,
    has_norm: bool,
    parts: impl IntoIterator<Item = wgpu::BufferBinding<'a>>,
) -> Dispatch {
    let pipeline = gpu.pipeline(&Kernel::round(has_norm));
    let group = pipeline.bind_parts(gpu, parts);
    let tokens = Extent::Tokens { each: 1, block: ROWS_TOKENS };
    Dispatch { work: Work::default(), pipeline, group, grid: [Extent::Fixed(1), tokens, Extent::Fixed(1)] }
}
