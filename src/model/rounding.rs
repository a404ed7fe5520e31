//! x rounded before a product, for the [cores that want it so](Core::preparation): to eight bits, or to f16. Where it
//! lies, and who rounds it.

use bytemuck::{Pod, Zeroable};

use super::forward::ProductParams;
use crate::gpu::Gpu;
use crate::gpu::kernel::{Core, ROWS_TOKENS};
use crate::gpu::part::Part;
use crate::gpu::plan::{Dispatch, Extent, Groups, Work};

/// Columns that have a scale together.
const SCALE_COLS: usize = 16;

/// `Params` of `round.wgsl` and `halve.wgsl`.
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

/// Bytes of `n_tokens` rounded rows of `cols`, two bytes a number: of the words, and of their scales, of which f16 has one
/// a token. Both are of whole blocks of tokens.
pub(super) fn rounded_bytes(n_tokens: usize, cols: usize) -> [u64; 2] {
    let n_tokens = n_tokens.next_multiple_of(ROWS_TOKENS as usize);
    [2 * n_tokens * cols, 4 * n_tokens * cols.div_ceil(SCALE_COLS)].map(|bytes| bytes as u64)
}

/// The dispatch that rounds x for `core`, if that wants it. `parts`: the step, [`RoundParams`], x, the norm (not read
/// without `has_norm`), and what is written, the words and their scales.
pub(super) fn round(gpu: &Gpu, groups: &mut Groups, core: Core, has_norm: bool, parts: [Part; 6]) -> Option<Dispatch> {
    let (kernel, block) = core.preparation(has_norm)?;
    let pipeline = gpu.pipeline(&kernel);
    let group = groups.bind(gpu, &pipeline, parts);
    let grid = [Extent::Fixed(1), Extent::Tokens { each: 1, block }, Extent::Fixed(1)];
    Some(Dispatch { work: Work::default(), pipeline, group, grid })
}
