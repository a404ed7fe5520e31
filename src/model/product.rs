//! Products with a matrix: a piece of one, or two, a core and where the operands lie enter; the dispatch leaves, and before
//! it that which rounds x, to eight bits or to f16, for the [cores that want it so](Core::preparation).

use bytemuck::{Pod, Zeroable};

use super::blueprint::MatrixId;
use crate::config::ModelConfig;
use crate::gpu::Gpu;
use crate::gpu::kernel::{Core, Epilogue, Kernel, ROWS_TOKENS};
use crate::gpu::part::Part;
use crate::gpu::plan::{Dispatch, Extent, Groups, Work};
use crate::gpu::tensor::{Piece, PieceShape, padded};
use crate::gpu::uniforms::Uniforms;

/// Columns that have a scale together, at least.
const SCALE_COLS: usize = 16;

/// What is done with a product with a matrix, and whether x is normalised first.
pub(super) fn role(id: MatrixId) -> (Epilogue, bool) {
    match id {
        MatrixId::Embedding | MatrixId::Output | MatrixId::Gate(_) => (Epilogue::Store, true),
        MatrixId::Qkv(_) => (Epilogue::Qkv, true),
        MatrixId::GateUp(_) => (Epilogue::GateUp, true),
        MatrixId::Up(_) => (Epilogue::Gate, true),
        MatrixId::AttnOut(_) | MatrixId::Down(_) => (Epilogue::Add, false),
    }
}

/// The kernel for what a dispatch takes of a matrix.
pub(super) fn kernel(core: Core, pieces: &[PieceShape], id: MatrixId) -> Kernel {
    let (epilogue, is_normalised) = role(id);
    let dtype = |piece: &PieceShape| piece.layout.dtype;
    match pieces {
        [first, second] => Kernel::product_of_two(core, [dtype(first), dtype(second)], epilogue, is_normalised),
        _ => Kernel::product(core, dtype(&pieces[0]), epilogue, is_normalised),
    }
}

/// `Params` of `shared/product.wgsl`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ProductParams {
    n_chunks: u32,
    n_rows: u32,
    n_pairs: u32,
    first_row: u32,
    x_stride: u32,
    y_stride: u32,
    cols: u32,
    eps: f32,
    q_rows: u32,
    k_rows: u32,
    head_dim: u32,
    room: u32,
    epilogue: u32,
    has_norm: u32,
    norm_at: u32,
    n_first: u32,
}

impl ProductParams {
    /// Those of a piece of the matrix `id`, or of two neighbours, with `room` positions in the KV cache, rows of the output
    /// `y_width` apart, and the norm's weights so many bytes from the beginning of the tables.
    pub(super) fn new(
        config: &ModelConfig,
        room: usize,
        y_width: usize,
        norm_offset: u64,
        pieces: &[PieceShape],
        id: MatrixId,
    ) -> Self {
        let heads = config.n_heads * config.head_dim;
        let (first, n_rows) = (&pieces[0], pieces.iter().map(|piece| piece.n_rows).sum::<usize>());
        let (epilogue, has_norm) = role(id);
        let cols = match id {
            MatrixId::AttnOut(_) => heads,
            MatrixId::Down(_) => config.intermediate_size,
            _ => config.hidden_size,
        };
        Self {
            n_chunks: first.layout.n_chunks as u32,
            n_rows: n_rows as u32,
            n_pairs: n_rows.div_ceil(2) as u32,
            first_row: first.first_row as u32,
            x_stride: (padded(cols) / 4) as u32,
            y_stride: y_width as u32,
            cols: cols as u32,
            eps: config.norm_eps,
            q_rows: heads as u32,
            k_rows: (config.n_kv_heads * config.head_dim) as u32,
            head_dim: config.head_dim as u32,
            room: room as u32,
            epilogue: epilogue as u32,
            has_norm: has_norm.into(),
            norm_at: (norm_offset / 16) as u32,
            n_first: first.n_rows as u32,
        }
    }
}

/// `Params` of `round.wgsl` and `halve.wgsl`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RoundParams {
    n_chunks: u32,
    x_stride: u32,
    cols: u32,
    eps: f32,
}

impl RoundParams {
    /// Those of the x of a product.
    fn new(product: &ProductParams) -> Self {
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

/// A product with what a dispatch takes of a matrix, and where everything lies.
pub(super) struct Product<'a> {
    pub(super) core: Core,
    pub(super) id: MatrixId,
    /// One, or two neighbours that the core [takes both](Core::takes_both).
    pub(super) pieces: &'a [Piece],
    pub(super) params: ProductParams,
    pub(super) step: &'a Part,
    pub(super) x: &'a Part,
    /// Words and scales of x rounded, for cores that want it so: see [`rounded_bytes`].
    pub(super) rounded: &'a [Part; 2],
    /// Whether they are there already.
    pub(super) is_rounded: bool,
    /// The angles of `RoPE`, then norms.
    pub(super) tables: &'a Part,
    /// The norm among them; not read where x is not normalised.
    pub(super) norm: &'a Part,
    pub(super) y: &'a Part,
    /// Of a layer keys, then values; not read where it is not QKV.
    pub(super) cache: &'a Part,
}

impl Product<'_> {
    /// What computes it, in order.
    pub(super) fn dispatches(&self, gpu: &Gpu, uniforms: &mut Uniforms<'_>, groups: &mut Groups) -> Vec<Dispatch> {
        let (core, params, step) = (self.core, &self.params, self.step);
        let (epilogue, is_normalised) = role(self.id);
        let mut all = Vec::new();
        let (mut x, mut x_scales) = (self.x, None);
        if let Some((kernel, block)) = core.preparation(is_normalised) {
            let [words, scales] = self.rounded;
            if !self.is_rounded {
                let uniform = uniforms.add(&RoundParams::new(params));
                let pipeline = gpu.pipeline(&kernel);
                let group = groups.bind(gpu, &pipeline, [step, &uniform, x, self.norm, words, scales]);
                let grid = [Extent::Fixed(1), Extent::Tokens { each: 1, block }, Extent::Fixed(1)];
                all.push(Dispatch { work: Work::default(), pipeline, group, grid });
            }
            (x, x_scales) = (words, Some(scales));
        }
        let shapes: Vec<PieceShape> = self.pieces.iter().map(|piece| piece.shape).collect();
        let pipeline = gpu.pipeline(&kernel(core, &shapes, self.id));
        let uniform = uniforms.add(params);
        let has_cache = epilogue == Epilogue::Qkv || core.has_all_epilogues();
        let parts = [step, &uniform, x, self.tables].into_iter().chain(planes(&self.pieces[0])).chain([self.y]);
        let parts = parts.chain(x_scales).chain(has_cache.then_some(self.cache));
        let group = groups.bind(gpu, &pipeline, parts.chain(self.pieces[1..].iter().flat_map(planes)));
        let work = Work {
            role: if core.has_all_epilogues() { epilogue.word() } else { "" },
            bytes: shapes.iter().map(PieceShape::bytes).sum(),
            flops_per_token: 2 * u64::from(params.n_rows) * u64::from(params.cols),
            ..Work::default()
        };
        all.push(Dispatch { work, pipeline, group, grid: core.grid(params.n_pairs) });
        all
    }
}

/// The planes of a piece, as they are bound.
fn planes(piece: &Piece) -> [&Part; 2] {
    [&piece.quants, piece.aux()]
}
