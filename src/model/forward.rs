//! The forward pass as recorded dispatches, in the order of the equations:
//!
//! ```text
//! h = E[id]
//! for every layer:
//!     q, k, v = RoPE(Wqkv · norm(h))        k and v go to the cache
//!     h += Wo · attention(q, K, V)
//!     h += Wd · (silu(Wg · norm(h)) ⊙ Wu · norm(h))
//! logits = Wout · norm(h)
//! ```
//!
//! There are two plans, for one token and for many, with other kernels for the products; they share every
//! buffer. Bind groups are made here, once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::blueprint::{Blueprint, MatrixId};
use super::cache::{Cache, LayerCache, head_vecs};
use super::picker::{self, Picker};
use super::product::{self, Product, ProductParams, role, rounded_bytes};
use super::tuning::{Cores, Count};
use super::weights::{Weights, rope_bytes};
use super::{MAX_LOGITS, MIN_SLICE_LEN, max_batch, max_slices, step_of_one};
use crate::config::{LayerWeight, ModelConfig, WeightId};
use crate::error::Result;
use crate::gpu::kernel::{ATTENTION_ROWS, Core, EMBED_CHUNKS, Epilogue, Kernel, Pipeline, attention_teams};
use crate::gpu::part::{Part, whole};
use crate::gpu::plan::{Bound, Dispatch, Extent, Groups, Plan, Step, Work};
use crate::gpu::tensor::{PieceShape, padded};
use crate::gpu::uniforms::Uniforms;
use crate::gpu::{BINDING_ALIGNMENT, Gpu};

/// Has the device compile what the model will need, so that it does so while weights are still on their way.
pub(crate) fn compile(gpu: &Gpu, blueprint: &Blueprint, cores: &Cores) -> Result<()> {
    let config = blueprint.config()?;
    // Of every layer's the same but for types and shapes.
    let mut needed: Vec<(MatrixId, &[PieceShape])> = Vec::new();
    for (id, pieces) in blueprint.pieces() {
        let id = id.of_first_layer();
        if !needed.contains(&(id, pieces)) {
            needed.push((id, pieces));
        }
    }
    for (id, pieces) in needed {
        if id == MatrixId::Embedding {
            for piece in pieces {
                gpu.compile(&Kernel::embed(piece.layout.dtype));
            }
        }
        if id == MatrixId::Embedding && !config.tie_word_embeddings {
            continue;
        }
        for count in [Count::One, Count::Many] {
            for (core, shapes) in shares(cores, count, pieces) {
                gpu.compile(&product::kernel(core, &pieces[shapes], id));
                if let Some((kernel, _)) = core.preparation(role(id).1) {
                    gpu.compile(&kernel);
                }
            }
        }
    }
    for is_single in [true, false] {
        gpu.compile(&attention(gpu, config, cores, is_single));
    }
    for kernel in combine(gpu, config).into_iter().chain([picker::kernel(gpu)]) {
        gpu.compile(&kernel);
    }
    Ok(())
}

/// How a matrix in `pieces` is shared out among dispatches: one takes a piece, or, so that a token has few, two neighbours
/// of different types.
fn shares(cores: &Cores, count: Count, pieces: &[PieceShape]) -> Vec<(Core, Range<usize>)> {
    let mut all = Vec::new();
    let mut next = 0;
    while let Some(piece) = pieces.get(next) {
        let core = cores.get(count, piece);
        let joins = |other: &&PieceShape| count == Count::One && core.takes_both(piece, other);
        let end = next + 1 + usize::from(pieces.get(next + 1).is_some_and(|other| joins(&other)));
        all.push((core, next..end));
        next = end;
    }
    all
}

/// Query rows in a block of the attention: a token alone has no more than a group.
fn attention_rows(config: &ModelConfig, is_single: bool) -> u32 {
    let n_groups = (config.n_heads / config.n_kv_heads) as u32;
    if is_single { ATTENTION_ROWS.min(n_groups) } else { ATTENTION_ROWS }
}

/// Attention. On a GPU a token's few workgroups have several teams each; those of a batch are many.
fn attention(gpu: &Gpu, config: &ModelConfig, cores: &Cores, is_single: bool) -> Kernel {
    let (rows, vecs) = (attention_rows(config, is_single), head_vecs(config) as u32);
    let teams = if is_single && !gpu.is_software() { attention_teams(rows, vecs) } else { 1 };
    Kernel::attention(rows, vecs, cores.sharers(), teams)
}

/// The join of attention's slices, if there may be several: of few threads where the processor computes them one after
/// another.
fn combine(gpu: &Gpu, config: &ModelConfig) -> Option<Kernel> {
    let max_slices = max_slices(gpu.is_software(), config);
    (max_slices > 1).then(|| Kernel::attention_combine(if gpu.is_software() { 64 } else { 256 }, max_slices))
}

/// `Params` of `embed.wgsl`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct EmbedParams {
    n_chunks: u32,
    n_rows: u32,
    first_row: u32,
    y_stride: u32,
}

/// `Params` of `attention.wgsl`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct AttentionParams {
    n_heads: u32,
    n_groups: u32,
    head_dim: u32,
    room: u32,
    stride: u32,
    scale: f32,
    unused: [u32; 2],
}

/// `Params` of `attention_combine.wgsl`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct CombineParams {
    n_heads: u32,
    head_dim: u32,
    stride: u32,
    unused: u32,
}

/// Activations and what else the plans share.
#[derive(Debug)]
struct Buffers {
    ids: wgpu::Buffer,       // [max_batch] u32
    h: wgpu::Buffer,         // [max_batch, padded(hidden_size)]
    q: wgpu::Buffer,         // [max_batch, padded(n_heads * head_dim)]
    attn: wgpu::Buffer,      // [max_batch, padded(n_heads * head_dim)]
    slices: wgpu::Buffer,    // [n_heads, n_slices, head_dim + 2], of one token
    act: wgpu::Buffer,       // [max_batch, padded(intermediate_size)]
    logits: wgpu::Buffer,    // [MAX_LOGITS, vocab_size]
    staging: wgpu::Buffer,   // the same, mappable
    no_cache: wgpu::Buffer,  // in the place of keys and values where a kernel that has all epilogues writes none
    steps: wgpu::Buffer,     // [max_seq] Step of a token at each position, then one of several tokens
    head_step: wgpu::Buffer, // Step of the output projection
    /// x rounded, for kernels that want it so: words, and their scales.
    rounded: [wgpu::Buffer; 2],
}

/// The plans of a model, and the buffers they run in.
#[derive(Debug)]
pub(super) struct Plans {
    buffers: Buffers,
    vocab_size: usize,
    few: Plan,
    many: Plan,
    head_few: Plan,
    head_many: Plan,
    /// Which of the steps on the device is that of several tokens.
    last_slot: u32,
    /// What the device has as `head_step`.
    head_step: Cell<Step>,
}

impl Plans {
    /// Records the plans for a model whose weights are on the device.
    pub(super) fn new(
        gpu: &Gpu,
        config: &ModelConfig,
        weights: &Weights,
        cache: &Cache,
        cores: &Cores,
    ) -> Result<Self> {
        let buffers = Buffers::new(gpu, config, cache.max_seq());
        let params = RefCell::new(Uniforms::new(gpu));
        let groups = RefCell::default();
        let recorder = Recorder { gpu, config, weights, cache, cores, buffers: &buffers, params, groups };
        let last_slot = cache.max_seq() as u32;
        let (few, head_few) = (recorder.forward(Count::One)?, recorder.head(Count::One)?);
        let (many, head_many) = (recorder.forward(Count::Many)?, recorder.head(Count::Many)?);
        recorder.params.borrow().write();
        Ok(Self {
            vocab_size: config.vocab_size,
            last_slot,
            few,
            many,
            head_few,
            head_many,
            buffers,
            head_step: Cell::default(),
        })
    }

    /// Writes what a step reads: `ids`, or without any the one on the device, which the last choice left there, and
    /// which of its tokens are to have `logits`.
    pub(super) fn write(&self, gpu: &Gpu, ids: Option<&[u32]>, step: &Step, logits: &Range<usize>) {
        if let Some(ids) = ids {
            gpu.queue.write_buffer(&self.buffers.ids, 0, bytemuck::cast_slice(ids));
        }
        if step.n_tokens > 1 {
            let at = u64::from(step.slot(self.last_slot)) * BINDING_ALIGNMENT;
            gpu.queue.write_buffer(&self.buffers.steps, at, bytemuck::bytes_of(step));
        }
        let head = Step { pos: 0, n_tokens: logits.len() as u32, first_token: logits.start as u32, slice_len: 1 };
        // While decoding always the same.
        if self.head_step.replace(head) != head {
            gpu.queue.write_buffer(&self.buffers.head_step, 0, bytemuck::bytes_of(&head));
        }
    }

    /// The dispatches of a step, and of the logits of `n_logits` of its tokens.
    pub(super) fn plans(&self, step: &Step, n_logits: usize) -> (&Plan, &Plan) {
        (
            if step.n_tokens == 1 { &self.few } else { &self.many },
            if n_logits == 1 { &self.head_few } else { &self.head_many },
        )
    }

    /// Encodes a step that was written, with the logits of `n_logits` of its tokens; returns its dispatches.
    pub(super) fn encode(&self, pass: &mut wgpu::ComputePass<'_>, step: &Step, n_logits: usize) -> usize {
        let (body, head) = self.plans(step, n_logits);
        let n_dispatches = body.encode(pass, step);
        if n_logits == 0 {
            return n_dispatches;
        }
        n_dispatches + head.encode(pass, &Step { n_tokens: n_logits as u32, ..*step })
    }

    /// Encodes a workgroup of every kernel, so that the driver does now what it leaves for the first time. What that
    /// writes is written anew before anything reads it.
    pub(super) fn warm_up(&self, gpu: &Gpu, picker: &Picker, pass: &mut wgpu::ComputePass<'_>) {
        let step = Step { pos: 0, n_tokens: 1, first_token: 0, slice_len: MIN_SLICE_LEN };
        self.write(gpu, Some(&[0]), &step, &(0..1));
        let mut seen = BTreeSet::new();
        let plans = [&self.few, &self.many, &self.head_few, &self.head_many, picker.plan()];
        for dispatch in plans.iter().flat_map(|plan| &plan.dispatches) {
            if seen.insert(&dispatch.pipeline.label) {
                dispatch.encode_one(pass);
            }
        }
    }

    /// A picker for what [`Plans::encode`] computes, and steps without ids take.
    pub(super) fn picker(&self, gpu: &Gpu) -> Picker {
        Picker::new(gpu, self.vocab_size, &self.buffers.logits, &self.buffers.ids)
    }

    /// Encodes the copy of the logits of `n` tokens to [`Plans::staging`].
    pub(super) fn encode_copy(&self, encoder: &mut wgpu::CommandEncoder, n: usize) {
        let bytes = (n * self.vocab_size * 4) as u64;
        encoder.copy_buffer_to_buffer(&self.buffers.logits, 0, &self.buffers.staging, 0, bytes);
    }

    /// Logits that can be mapped: `[MAX_LOGITS, vocab_size]`.
    pub(super) fn staging(&self) -> &wgpu::Buffer {
        &self.buffers.staging
    }

    /// The labels of all kernels, sorted.
    pub(super) fn kernels(&self) -> Vec<String> {
        let plans = [&self.few, &self.many, &self.head_few, &self.head_many];
        let dispatches = plans.iter().flat_map(|plan| &plan.dispatches);
        let labels: BTreeSet<_> = dispatches.map(|dispatch| dispatch.pipeline.label.clone()).collect();
        labels.into_iter().collect()
    }
}

impl Buffers {
    fn new(gpu: &Gpu, config: &ModelConfig, max_seq: usize) -> Self {
        use wgpu::BufferUsages as Usage;
        let sizes = Sizes::new(config, max_seq, gpu.is_software());
        let usage = Usage::UNIFORM | Usage::COPY_DST;
        let steps = gpu.buffer("steps", steps_bytes(max_seq), usage);
        gpu.queue.write_buffer(&steps, 0, &steps_of_one(gpu.is_software(), config, max_seq));
        Self {
            ids: gpu.storage("ids", (max_batch(gpu.is_software()) * 4) as u64),
            h: gpu.storage("h", sizes.h),
            q: gpu.storage("q", sizes.heads),
            attn: gpu.storage("attn", sizes.heads),
            slices: gpu.storage("slices", sizes.slices),
            act: gpu.storage("act", sizes.act),
            logits: gpu.storage("logits", sizes.logits),
            staging: gpu.buffer("logits staging", sizes.logits, Usage::MAP_READ | Usage::COPY_DST),
            no_cache: gpu.storage("no cache", 4),
            steps,
            head_step: gpu.uniform("head step", &Step::default()),
            rounded: sizes.rounded.map(|bytes| gpu.storage("rounded", bytes)),
        }
    }
}

impl Buffers {
    /// The first step; dispatches have an offset to theirs.
    fn a_step(&self) -> Part {
        whole(&self.steps).part(0, size_of::<Step>() as u64)
    }
}

/// Bytes of the steps on the device.
pub(super) fn steps_bytes(max_seq: usize) -> u64 {
    (max_seq as u64 + 1) * BINDING_ALIGNMENT
}

/// The steps of a token at each position.
fn steps_of_one(is_software: bool, config: &ModelConfig, max_seq: usize) -> Vec<u8> {
    let mut all = Vec::with_capacity(steps_bytes(max_seq) as usize);
    for pos in 0..max_seq as u32 {
        all.extend_from_slice(bytemuck::bytes_of(&step_of_one(is_software, config, pos)));
        all.resize(all.len().next_multiple_of(BINDING_ALIGNMENT as usize), 0);
    }
    all
}

/// Bytes of the larger [`Buffers`].
struct Sizes {
    h: u64,
    /// Of `q`, and of `attn`.
    heads: u64,
    slices: u64,
    act: u64,
    /// Of `logits`, and of `staging`.
    logits: u64,
    /// Of either of `rounded`.
    rounded: [u64; 2],
}

impl Sizes {
    fn new(config: &ModelConfig, max_seq: usize, is_software: bool) -> Self {
        let max_batch = max_batch(is_software);
        let activation = |width: usize| (max_batch * padded(width) * 4) as u64;
        let n_slices = max_seq.div_ceil(MIN_SLICE_LEN as usize).min(max_slices(is_software, config) as usize);
        let widest = config.hidden_size.max(config.n_heads * config.head_dim).max(config.intermediate_size);
        Self {
            h: activation(config.hidden_size),
            heads: activation(config.n_heads * config.head_dim),
            slices: (config.n_heads * n_slices * (config.head_dim + 2) * 4) as u64,
            act: activation(config.intermediate_size),
            logits: (MAX_LOGITS * config.vocab_size * 4) as u64,
            rounded: rounded_bytes(max_batch, padded(widest)),
        }
    }
}

/// Bytes of all that is neither weights nor KV cache, but for some thousands.
pub(super) fn activation_bytes(config: &ModelConfig, max_seq: usize, is_software: bool) -> u64 {
    let sizes = Sizes::new(config, max_seq, is_software);
    picker::bytes(config.vocab_size)
        + sizes.h
        + 2 * sizes.heads
        + sizes.slices
        + sizes.act
        + 2 * sizes.logits
        + rope_bytes(config, max_seq)
        + steps_bytes(max_seq)
        + sizes.rounded.iter().sum::<u64>()
}

/// Makes dispatches out of the model's parts.
struct Recorder<'a> {
    gpu: &'a Gpu,
    config: &'a ModelConfig,
    weights: &'a Weights,
    cache: &'a Cache,
    cores: &'a Cores,
    buffers: &'a Buffers,
    /// Where the parameters of the dispatches are.
    params: RefCell<Uniforms<'a>>,
    groups: RefCell<Groups>,
}

impl Recorder<'_> {
    /// From ids to the residual stream after the last layer.
    fn forward(&self, count: Count) -> Result<Plan> {
        let (b, config) = (self.buffers, self.config);
        let mut plan = Plan::default();
        self.embed(&mut plan);
        plan.add_tap("embedding".into(), &b.h, config.hidden_size, padded(config.hidden_size));
        for layer in 0..config.n_layers {
            let attn_norm = &self.weights.norm(WeightId::Layer(layer, LayerWeight::AttnNorm))?;
            let ffn_norm = &self.weights.norm(WeightId::Layer(layer, LayerWeight::FfnNorm))?;
            let cache = &self.cache.layers()[layer];
            let product = |plan: &mut Plan, x, norm, id, y, y_width| {
                self.product(plan, count, &Operands { x, norm, step: &b.a_step(), y, y_width, cache }, id)
            };
            let [heads, hidden, mlp] = [config.n_heads * config.head_dim, config.hidden_size, config.intermediate_size];
            let tap = |plan: &mut Plan, name, buffer, width| {
                plan.add_tap(format!("layers.{layer}.{name}"), buffer, width, padded(width));
            };
            product(&mut plan, &b.h, attn_norm, MatrixId::Qkv(layer), &b.q, padded(heads))?;
            tap(&mut plan, "queries", &b.q, heads);
            self.attention(&mut plan, count == Count::One, layer);
            tap(&mut plan, "attention", &b.attn, heads);
            product(&mut plan, &b.attn, attn_norm, MatrixId::AttnOut(layer), &b.h, padded(hidden))?;
            tap(&mut plan, "middle", &b.h, hidden);
            product(&mut plan, &b.h, ffn_norm, MatrixId::GateUp(layer), &b.act, padded(mlp))?;
            product(&mut plan, &b.h, ffn_norm, MatrixId::Gate(layer), &b.act, padded(mlp))?;
            product(&mut plan, &b.h, ffn_norm, MatrixId::Up(layer), &b.act, padded(mlp))?;
            tap(&mut plan, "mlp", &b.act, mlp);
            product(&mut plan, &b.act, ffn_norm, MatrixId::Down(layer), &b.h, padded(hidden))?;
            tap(&mut plan, "output", &b.h, hidden);
        }
        plan.set_slots(self.cache.max_seq() as u32);
        Ok(plan)
    }

    /// From the residual stream to logits.
    fn head(&self, count: Count) -> Result<Plan> {
        let b = self.buffers;
        let norm = &self.weights.norm(WeightId::OutputNorm)?;
        let id = if self.config.tie_word_embeddings { MatrixId::Embedding } else { MatrixId::Output };
        let y_width = self.config.vocab_size;
        let mut plan = Plan::default();
        let cache = &self.cache.layers()[0];
        let operands = Operands { x: &b.h, norm, step: &whole(&b.head_step), y: &b.logits, y_width, cache };
        self.product(&mut plan, count, &operands, id)?;
        Ok(plan)
    }

    fn embed(&self, plan: &mut Plan) {
        let b = self.buffers;
        for piece in self.weights.matrix(MatrixId::Embedding) {
            let pipeline = self.gpu.pipeline(&Kernel::embed(piece.shape.layout.dtype));
            let params = EmbedParams {
                n_chunks: piece.shape.layout.n_chunks as u32,
                n_rows: piece.shape.n_rows as u32,
                first_row: piece.shape.first_row as u32,
                y_stride: (padded(self.config.hidden_size) / 4) as u32,
            };
            let params = self.params.borrow_mut().add(&params);
            let planes = [&piece.quants, piece.aux()].map(Part::clone);
            let parts = [params, whole(&b.ids)].into_iter().chain(planes).chain([whole(&b.h)]);
            let group = self.bind(&pipeline, parts);
            let x = Extent::Fixed((piece.shape.layout.n_chunks as u32).div_ceil(EMBED_CHUNKS));
            plan.dispatches.push(Dispatch {
                work: Work::default(),
                pipeline,
                group,
                grid: [x, Extent::TOKENS, Extent::Fixed(1)],
            });
        }
    }

    fn attention(&self, plan: &mut Plan, is_single: bool, layer: usize) {
        let (b, config, cache) = (self.buffers, self.config, &self.cache.layers()[layer]);
        let n_groups = (config.n_heads / config.n_kv_heads) as u32;
        let rows = attention_rows(config, is_single);
        let stride = padded(config.n_heads * config.head_dim) as u32;
        let params = AttentionParams {
            n_heads: config.n_heads as u32,
            n_groups,
            head_dim: config.head_dim as u32,
            room: self.cache.room() as u32,
            stride,
            scale: 1.0 / (config.head_dim as f32).sqrt(),
            unused: [0; 2],
        };
        let pipeline = self.gpu.pipeline(&attention(self.gpu, config, self.cores, is_single));
        let params = self.params.borrow_mut().add(&params);
        let inputs = [b.a_step(), params, whole(&b.q), cache.k.clone(), cache.v.clone()];
        let group = self.bind(&pipeline, inputs.into_iter().chain([&b.attn, &b.slices].map(whole)));
        let blocks = Extent::Tokens { each: n_groups, block: rows };
        let grid = [Extent::Fixed(config.n_kv_heads as u32), blocks, Extent::Slices];
        let work = Work {
            bytes_per_position: 2 * (config.n_kv_heads * head_vecs(config) * 8) as u64,
            flops_per_sight: 4 * (config.n_heads * config.head_dim) as u64,
            ..Work::default()
        };
        plan.dispatches.push(Dispatch { work, pipeline, group, grid });

        let Some(combine) = combine(self.gpu, config) else { return };
        let pipeline = self.gpu.pipeline(&combine);
        let params =
            CombineParams { n_heads: config.n_heads as u32, head_dim: config.head_dim as u32, stride, unused: 0 };
        let params = self.params.borrow_mut().add(&params);
        let parts = [b.a_step(), params, whole(&b.slices), whole(&b.attn)];
        let group = self.bind(&pipeline, parts);
        let grid = [Extent::Fixed(config.n_heads as u32), Extent::TokensIfSliced, Extent::Fixed(1)];
        plan.dispatches.push(Dispatch { work: Work::default(), pipeline, group, grid });
    }

    /// The dispatches of a product with the matrix: none if the model does not have it.
    fn product(&self, plan: &mut Plan, count: Count, operands: &Operands<'_>, id: MatrixId) -> Result<()> {
        let Operands { x, norm, step, y, y_width, cache } = *operands;
        let pieces = self.weights.matrix(id);
        let shapes: Vec<PieceShape> = pieces.iter().map(|piece| piece.shape).collect();
        let mut rounded_for = None;
        for (core, share) in shares(self.cores, count, &shapes) {
            let shapes = &shapes[share.clone()];
            let params = ProductParams::new(self.config, self.cache.room(), y_width, norm.offset, shapes, id);
            let product = Product {
                core,
                id,
                pieces: &pieces[share],
                params,
                step,
                x: &whole(x),
                rounded: &self.buffers.rounded.each_ref().map(whole),
                is_rounded: rounded_for.replace(core) == Some(core),
                tables: self.weights.tables()?,
                norm,
                y: &whole(y),
                cache: if role(id).0 == Epilogue::Qkv { &cache.both } else { &whole(&self.buffers.no_cache) },
            };
            let uniforms = &mut self.params.borrow_mut();
            plan.dispatches.extend(product.dispatches(self.gpu, uniforms, &mut self.groups.borrow_mut()));
        }
        Ok(())
    }

    fn bind(&self, pipeline: &Pipeline, parts: impl IntoIterator<Item = Part>) -> Bound {
        self.groups.borrow_mut().bind(self.gpu, pipeline, parts)
    }
}

/// What a product with any matrix needs besides the matrix.
#[derive(Clone, Copy)]
struct Operands<'a> {
    x: &'a wgpu::Buffer,
    /// Not read where x is not normalised.
    norm: &'a Part,
    step: &'a Part,
    y: &'a wgpu::Buffer,
    y_width: usize,
    /// Not read where it is not QKV.
    cache: &'a LayerCache,
}
