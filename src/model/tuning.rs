//! Which kernel computes the products: candidates enter, the one that is fastest on this device with this model's
//! matrices leaves.
//!
//! Measured once a device and shape, on the model's own matrices, as soon as they are allocated: what they hold does
//! not matter for time. [`Tuning`] remembers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::str::FromStr;
use std::task::Poll;

use web_time::Instant;

use super::blueprint::{Blueprint, MatrixId};
use super::product::{self, Product, ProductParams, role, rounded_bytes};
use super::weights::Weights;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::format::Dtype;
use crate::format::repack::Layout;
use crate::gpu::kernel::{Core, Kernel, MatVecShape, Numbers, ROWS_TOKENS};
use crate::gpu::part::{Blocks, Part};
use crate::gpu::plan::{self, Dispatch, Groups, Step};
use crate::gpu::tensor::{Piece, PieceShape, padded};
use crate::gpu::uniforms::Uniforms;
use crate::gpu::{Gpu, Offer};

/// What measuring may take in all, in seconds, but for a first look at each candidate on a GPU; where that is over, what is
/// measured is not measured again, and what is not gets the kernels that every device has.
const BUDGET: f64 = 0.4;

/// A measurement lasts about so long, in seconds: browsers round timestamps to 0.1 ms, and the clock, which is for devices
/// without them, to as much as 1 ms.
const PASS_SECONDS: f64 = 0.002;
const CLOCKED_SECONDS: f64 = 0.01;

/// The clock tells nothing where it takes longer than that, in seconds, to hear that the device did nothing.
const MAX_ROUND_TRIP: f64 = 0.01;

/// Most products of a measurement.
const MAX_REPEATS: usize = 512;

/// How much faster than the kernel for every device another must be: timing is not exact, and rounding costs quality.
const GAIN: f64 = 1.03;
const ROUNDED_GAIN: f64 = 1.10;

/// Types that are measured: those with most weights. Others follow the first.
const N_DTYPES: usize = 2;

/// Shapes of matrices that are measured for each of them, those with most weights: for one token, where it shows how
/// many threads a small matrix gives work to, and for many. Others follow what is next to them in size. By the clock,
/// which takes longer, it is one.
const N_SHAPES: [usize; 2] = [3, 1];

/// Tokens of a product that is measured for many, on a GPU.
const MANY_TOKENS: u32 = 256;

/// Tokens whose results show whether a kernel computes right.
const CHECK_TOKENS: usize = 32;

/// Rows of the matrix that shows whether a kernel computes right on this device.
const CHECK_ROWS: usize = 64;

/// How far it may be off, as a share of the largest result: sums in another order, or each x rounded to 1 in 254 of the
/// largest of its sixteen or 32. What a kernel gets wrong that is off by a whole lane or chunk is as large as the result.
const EXACT_TOLERANCE: f32 = 1e-4;
const ROUNDED_TOLERANCE: f32 = 0.03;

/// Entries that are remembered, before all are forgotten.
const MAX_ENTRIES: usize = 256;

/// What a key of [`Tuning`] begins with, and what is between its parts.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const SEPARATOR: &str = " | ";

/// Which kernels a model may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kernels {
    /// The fastest on the device, as measured; some round activations.
    #[default]
    Auto,
    /// The fastest of those that do not round.
    Exact,
    /// Those that round activations to eight bits, wherever the device has them.
    Rounded,
    /// Those that every device has.
    Baseline,
}

impl Kernels {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Exact, Self::Rounded, Self::Baseline];

    /// The name in options, such as `"auto"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Exact => "exact",
            Self::Rounded => "rounded",
            Self::Baseline => "baseline",
        }
    }
}

impl FromStr for Kernels {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kernels| kernels.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|kernels| kernels.name()).collect();
            Error::InvalidArgument(format!("{name:?} is no choice of kernels; expected one of {}", names.join(", ")))
        })
    }
}

/// What was found fastest, by device and shape; to be kept and given to the next load.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tuning {
    labels: BTreeMap<String, String>,
}

impl Tuning {
    /// Reads what [`Tuning::to_json`] wrote. Anything else is as good as nothing: it is measured again.
    #[must_use]
    pub fn from_json(text: &str) -> Self {
        Self { labels: serde_json::from_str(text).unwrap_or_default() }
    }

    /// What was found for an adapter of which a device had `offer`: the kernels by what they are for.
    #[must_use]
    pub fn of(&self, backend: &str, adapter: &str, driver: &str, offer: Offer) -> BTreeMap<String, String> {
        let prefix = [VERSION, backend, adapter, driver, &format!("{offer:?}"), ""].join(SEPARATOR);
        let found = self.labels.iter().filter_map(|(key, label)| Some((key.strip_prefix(&prefix)?, label)));
        found.map(|(what, label)| (what.replace(SEPARATOR, ", "), label.clone())).collect()
    }

    /// A JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!(self.labels).to_string()
    }
}

/// Whether a product is for one token or for many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Count {
    One,
    Many,
}

/// The rows of a matrix, or of a piece of one, and the chunks in a row.
type Shape = [usize; 2];

fn shape_of(piece: &PieceShape) -> Shape {
    [piece.n_rows, piece.layout.n_chunks]
}

/// The kernels of a model's products, by what they are for, the type of the weights and the shape of the matrix.
#[derive(Debug, Default)]
pub(crate) struct Cores {
    kernels: Kernels,
    /// The dtypes that were looked at, those with most weights first.
    dtypes: Vec<Dtype>,
    chosen: BTreeMap<(Count, Dtype, Shape), Core>,
    one: Vec<Core>,
    many: Vec<Core>,
    /// Seconds that measuring took so far.
    spent: f64,
    tuning: Tuning,
}

impl Cores {
    /// The choice before anything was measured.
    pub(crate) fn new(gpu: &Gpu, kernels: Kernels, tuning: Tuning) -> Self {
        let [one, many] = [Count::One, Count::Many].map(|count| candidates(gpu, kernels, count));
        Self { kernels, one, many, tuning, ..Self::default() }
    }

    /// Chooses what needs no measuring, for the types that the blueprint has; returns whether that is all.
    pub(crate) fn settle(&mut self, gpu: &Gpu, blueprint: &Blueprint) -> bool {
        self.dtypes = blueprint.dtypes();
        !self.is_measured(gpu)
    }

    /// Whether there is anything to measure.
    fn is_measured(&self, gpu: &Gpu) -> bool {
        let has_choice = self.one.len() > 1 || self.many.len() > 1;
        has_choice && matches!(self.kernels, Kernels::Auto | Kernels::Exact) && !is_known(gpu)
    }

    /// What to remember.
    pub(crate) fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// The kernel for products with a piece of a matrix.
    pub(super) fn get(&self, count: Count, piece: &PieceShape) -> Core {
        let dtype = piece.layout.dtype;
        let nearest = |dtype: Dtype| {
            let chosen = self.chosen.range((count, dtype, [0; 2])..=(count, dtype, [usize::MAX; 2]));
            chosen.min_by(|(a, _), (b, _)| distance(a.2, piece).total_cmp(&distance(b.2, piece))).map(|(_, core)| core)
        };
        let leading = self.dtypes.first().and_then(|first| nearest(*first));
        let mut all = nearest(dtype).into_iter().chain(leading).chain(self.candidates(count));
        all.find(|core| core.takes(dtype)).copied().unwrap_or(Core::MatMul(Numbers::F32))
    }

    /// Lanes that share out what all threads of attention need: as those of products do.
    pub(super) fn sharers(&self) -> u32 {
        let sharers = self.one.iter().find_map(|core| match core {
            Core::Rows { sharers, .. } => Some(*sharers),
            _ => None,
        });
        sharers.unwrap_or(1)
    }

    /// The first is used where nothing was measured.
    fn candidates(&self, count: Count) -> &[Core] {
        match count {
            Count::One => &self.one,
            Count::Many => &self.many,
        }
    }

    /// Compiles what [`Cores::measure`] would measure.
    pub(crate) fn prepare(&self, gpu: &Gpu, blueprint: &Blueprint, weights: &Weights) -> Result<()> {
        for choice in self.choices(gpu, blueprint, weights)? {
            if choice.remembered.is_none() {
                for core in &choice.candidates {
                    gpu.compile(&choice.kernel(*core));
                    if let Some((kernel, _)) = core.preparation(role(choice.id).1) {
                        gpu.compile(&kernel);
                    }
                }
            }
        }
        Ok(())
    }

    /// Measures for the types that the blueprint has and this has not seen yet.
    pub(crate) async fn measure(&mut self, gpu: &Gpu, blueprint: &Blueprint, weights: &Weights) -> Result<()> {
        let choices = self.choices(gpu, blueprint, weights)?;
        for choice in &choices {
            if let Some(core) = choice.remembered {
                self.chosen.insert(choice.what(), core);
            }
        }
        let new: Vec<_> = choices.iter().filter(|choice| choice.remembered.is_none()).collect();
        let by_clock = !gpu.offer().timestamps;
        if by_clock && !new.is_empty() && gpu.round_trip().await? > MAX_ROUND_TRIP {
            return Ok(());
        }
        // All at once, since what takes longest may be to hear of it: some browsers tell only every 100 ms what is done. Not
        // where that is to compute it, lest it take too long, nor by the clock.
        let at_once = if by_clock || gpu.is_software() { 1 } else { new.len().max(1) };
        for group in new.chunks(at_once) {
            if self.spent >= BUDGET {
                break;
            }
            let begin = Instant::now();
            let config = blueprint.config()?;
            let benches: Vec<_> = group.iter().map(|choice| Bench::new(gpu, config, choice)).collect();
            let budget = BUDGET - self.spent;
            let found = all(benches.iter().map(|bench| bench.fastest(budget)).collect()).await;
            self.spent += begin.elapsed().as_secs_f64();
            for (choice, core) in group.iter().zip(found) {
                let core = core?;
                self.chosen.insert(choice.what(), core);
                if self.tuning.labels.len() >= MAX_ENTRIES {
                    self.tuning.labels.clear();
                }
                self.tuning.labels.insert(choice.key.clone(), core.label());
            }
        }
        Ok(())
    }

    /// What is not chosen yet.
    fn choices<'a>(&self, gpu: &Gpu, blueprint: &Blueprint, weights: &'a Weights) -> Result<Vec<Choice<'a>>> {
        let mut choices = Vec::new();
        if !self.is_measured(gpu) {
            return Ok(choices);
        }
        let config = blueprint.config()?;
        for dtype in blueprint.dtypes().into_iter().take(N_DTYPES) {
            let typical = typical(config, blueprint, weights, dtype);
            let n_shapes = if gpu.offer().timestamps { N_SHAPES } else { [1; 2] };
            for (count, n_shapes) in [Count::One, Count::Many].into_iter().zip(n_shapes) {
                let mut candidates = self.candidates(count).to_vec();
                candidates.retain(|core| core.takes(dtype));
                // The output projection is for few tokens at a time.
                let is_for_many = |id: MatrixId| !matches!(id, MatrixId::Embedding | MatrixId::Output);
                let typical = typical.iter().filter(|(id, _)| count == Count::One || is_for_many(*id));
                for (id, pieces) in typical.take(n_shapes).cloned() {
                    if candidates.len() < 2 || self.chosen.contains_key(&(count, dtype, shape_of(&pieces[0].shape))) {
                        continue;
                    }
                    let key = self.key(gpu, &pieces[0].shape, count);
                    let label = self.tuning.labels.get(&key);
                    let remembered = candidates.iter().find(|core| Some(&core.label()) == label).copied();
                    choices.push(Choice { count, dtype, candidates: candidates.clone(), id, pieces, key, remembered });
                }
            }
        }
        Ok(choices)
    }

    /// What a choice depends on.
    fn key(&self, gpu: &Gpu, shape: &PieceShape, count: Count) -> String {
        let info = gpu.adapter_info();
        let words = [
            VERSION.to_owned(),
            info.backend.to_string(),
            gpu.adapter_name(),
            info.driver_info.clone(),
            // Less than the adapter's where features were not asked for: then there are fewer candidates.
            format!("{:?}", gpu.offer()),
            self.kernels.name().to_owned(),
            format!("{count:?}").to_lowercase(),
            format!("{} {}x{}", shape.layout.dtype.name(), shape.n_rows, 32 * shape.layout.n_chunks),
        ];
        words.join(SEPARATOR)
    }
}

/// Whether it is known what is fastest. Software adapters of four lanes are `SwiftShader`, which takes as long to compile
/// what would be measured as to load a small model.
fn is_known(gpu: &Gpu) -> bool {
    gpu.is_software() && (4..8).contains(&gpu.offer().subgroup)
}

/// The kernels to choose from, where they take a type; the first wherever nothing is measured.
fn candidates(gpu: &Gpu, kernels: Kernels, count: Count) -> Vec<Core> {
    let Offer { subgroup, f16, packed_dot, cooperative, .. } = gpu.offer();
    let shape = |lanes: u32, groups, pairs, numbers| {
        let joined = subgroup.min(lanes);
        Core::MatVec(MatVecShape { lanes, groups, pairs, tokens: 1, joined, numbers })
    };
    let mut all: Vec<Core> = match (gpu.is_software(), count) {
        (true, _) => {
            let [tokens, rounded_tokens] = if count == Count::One { [1, 1] } else { [ROWS_TOKENS, 4] };
            let sharers: &[u32] = match subgroup {
                _ if kernels == Kernels::Baseline => &[1],
                8.. => &[8, 1],
                4.. => &[4],
                _ => &[1],
            };
            let plain = MatVecShape { lanes: 8, groups: 4, pairs: 4, tokens: rounded_tokens, ..MatVecShape::default() };
            let mut all: Vec<_> = sharers.iter().map(|sharers| Core::Rows { tokens, sharers: *sharers }).collect();
            if count == Count::Many && (kernels == Kernels::Rounded || is_known(gpu)) && subgroup >= 4 {
                all.insert(0, Core::RowsI8);
            }
            if kernels == Kernels::Rounded {
                all.push(Core::MatVec(MatVecShape { numbers: Numbers::I8, ..plain }));
            }
            all
        }
        (false, Count::One) => vec![
            Core::MatVec(MatVecShape::default()),
            shape(32, 2, 1, Numbers::F32),
            shape(16, 8, 1, Numbers::F32),
            shape(32, 4, 2, Numbers::F32),
            shape(32, 8, 1, Numbers::I8),
            shape(32, 4, 2, Numbers::I8),
            shape(64, 4, 1, Numbers::I8),
        ],
        (false, Count::Many) => {
            let mut all: Vec<_> = [Numbers::F32, Numbers::F16, Numbers::I8].map(Core::MatMul).into();
            if cooperative {
                all.push(Core::Cooperative);
            }
            all
        }
    };
    all.retain(|core| match core.numbers() {
        Numbers::F32 => true,
        Numbers::F16 => f16 && kernels == Kernels::Auto,
        Numbers::I8 => (packed_dot || *core == Core::RowsI8) && matches!(kernels, Kernels::Auto | Kernels::Rounded),
    });
    // Without subgroups two of them are the same.
    all.dedup();
    match kernels {
        Kernels::Auto | Kernels::Exact => {}
        Kernels::Rounded => all.sort_by_key(|core| core.numbers() != Numbers::I8),
        Kernels::Baseline => all.truncate(1),
    }
    all
}

/// The matrices of one type, each in layer after layer, those with most weights first.
fn typical<'a>(
    config: &ModelConfig,
    blueprint: &Blueprint,
    weights: &'a Weights,
    dtype: Dtype,
) -> Vec<(MatrixId, Vec<&'a Piece>)> {
    let mut all: Vec<(MatrixId, Vec<&Piece>)> = Vec::new();
    for (id, _) in blueprint.pieces() {
        // QKV's epilogue writes to a cache, which is not there yet.
        let is_plain = match id {
            MatrixId::Qkv(_) => false,
            MatrixId::Embedding => config.tie_word_embeddings,
            _ => true,
        };
        let pieces = weights.matrix(id).iter().filter(|piece| is_plain && piece.shape.layout.dtype == dtype);
        // Of equal shapes one is measured.
        for piece in pieces {
            match all.iter_mut().find(|(_, same)| shape_of(&same[0].shape) == shape_of(&piece.shape)) {
                Some((_, same)) => same.push(piece),
                None => all.push((id, vec![piece])),
            }
        }
    }
    let bytes = |pieces: &[&Piece]| pieces.iter().map(|piece| piece.shape.bytes()).sum::<u64>();
    all.sort_by_key(|(_, pieces)| std::cmp::Reverse(bytes(pieces)));
    all
}

/// How different in size a matrix is.
fn distance([n_rows, n_chunks]: Shape, piece: &PieceShape) -> f64 {
    let size = |n_rows: usize, n_chunks: usize| (n_rows as f64 * n_chunks as f64).ln();
    (size(n_rows, n_chunks) - size(piece.n_rows, piece.layout.n_chunks)).abs()
}

/// A choice between kernels.
struct Choice<'a> {
    count: Count,
    dtype: Dtype,
    /// Two at least.
    candidates: Vec<Core>,
    /// The matrix that stands for all of the type, and its pieces in layer after layer: at least one.
    id: MatrixId,
    pieces: Vec<&'a Piece>,
    /// Where it is remembered, and what is.
    key: String,
    remembered: Option<Core>,
}

impl Choice<'_> {
    /// What it is about.
    fn what(&self) -> (Count, Dtype, Shape) {
        (self.count, self.dtype, shape_of(&self.pieces[0].shape))
    }

    fn kernel(&self, core: Core) -> Kernel {
        product::kernel(core, &[self.pieces[0].shape], self.id)
    }
}

/// Products to be timed.
struct Bench<'a> {
    gpu: &'a Gpu,
    config: &'a ModelConfig,
    choice: &'a Choice<'a>,
    step: Step,
    uniforms: RefCell<Uniforms<'a>>,
    /// The same as `step`.
    step_part: Part,
    x: Part,
    y: Part,
    y_width: usize,
    /// Where x is rounded beforehand for those that want it.
    rounded: [Part; 2],
    /// In the place of keys and values: no product that is measured writes any.
    no_cache: Part,
    /// All of these but the uniforms.
    blocks: Blocks,
}

impl<'a> Bench<'a> {
    fn new(gpu: &'a Gpu, config: &'a ModelConfig, choice: &'a Choice<'a>) -> Self {
        let n_tokens = match choice.count {
            Count::One => 1,
            Count::Many if gpu.is_software() => 8,
            Count::Many => MANY_TOKENS,
        };
        let step = Step { pos: 0, n_tokens, first_token: 0, slice_len: 1 };
        let y_width = padded(match choice.id {
            MatrixId::Embedding | MatrixId::Output => config.vocab_size,
            MatrixId::GateUp(_) | MatrixId::Gate(_) | MatrixId::Up(_) => config.intermediate_size,
            _ => config.hidden_size,
        });
        // Between -1 and 1. Its first row is the norm, too.
        let x: Vec<f32> = (0..n_tokens as usize * 32 * choice.pieces[0].shape.layout.n_chunks)
            .map(|i| noise(i) as f32 / (1_u32 << 31) as f32 - 1.0)
            .collect();
        let (mut uniforms, mut blocks) = (Uniforms::new(gpu), Blocks::default());
        let mut part = |bytes: u64| blocks.allot_one(gpu, "tuning", bytes);
        let x_part = part(4 * x.len() as u64);
        x_part.write(gpu, 0, bytemuck::cast_slice(&x));
        let rounded = rounded_bytes(n_tokens as usize, 32 * choice.pieces[0].shape.layout.n_chunks).map(&mut part);
        Self {
            gpu,
            config,
            choice,
            step,
            step_part: uniforms.add(&step),
            x: x_part,
            y: part(u64::from(n_tokens) * y_width as u64 * 4),
            y_width,
            rounded,
            no_cache: part(4),
            uniforms: RefCell::new(uniforms),
            blocks,
        }
    }

    /// The candidate to use.
    async fn fastest(&self, budget: f64) -> Result<Core> {
        let begin = Instant::now();
        let candidates = &self.choice.candidates;
        let right = self.check(candidates).await?;
        let mut left: Vec<Core> =
            candidates.iter().zip(right).filter_map(|(core, is_right)| is_right.then_some(*core)).collect();
        // One matrix each, which also makes the driver do what it left for the first time; then, where that is
        // too short to be measured, as many as it takes.
        let has_timestamps = self.gpu.offer().timestamps;
        let (pass_seconds, resolution) = if has_timestamps { (PASS_SECONDS, 1e-6) } else { (CLOCKED_SECONDS, 1e-3) };
        let mut times = self.time(&left, 1).await?;
        let mut n = 1;
        for _ in 0..2 {
            let least = times.iter().copied().fold(f64::INFINITY, f64::min).max(resolution / n as f64);
            let spent = begin.elapsed().as_secs_f64();
            if least.max(pass_seconds) * left.len() as f64 > budget - spent {
                break;
            }
            let keep: Vec<bool> = times.iter().map(|time| *time < 2.0 * least).collect();
            let mut kept = keep.iter();
            left.retain(|core| kept.next() == Some(&true) || *core == candidates[0]);
            n = ((pass_seconds / least).ceil() as usize).clamp(1, MAX_REPEATS);
            times = self.time(&left, n).await?;
        }
        let weighted = |(core, time): (&Core, &f64)| {
            let gain = match core.numbers() {
                _ if *core == candidates[0] => 1.0,
                Numbers::F32 => GAIN,
                Numbers::F16 | Numbers::I8 => ROUNDED_GAIN,
            };
            (*core, time * gain)
        };
        let fastest = left.iter().zip(&times).map(weighted).min_by(|a, b| a.1.total_cmp(&b.1));
        Ok(fastest.map_or(candidates[0], |(core, _)| core))
    }

    /// Seconds that each of `cores` takes for a matrix, on average over `n`: those of one layer after another, so that
    /// they come from memory, and again from the first where there are fewer.
    async fn time(&self, cores: &[Core], n: usize) -> Result<Vec<f64>> {
        let n_pieces = n.min(self.choice.pieces.len());
        let dispatches: Vec<Vec<Dispatch>> = cores
            .iter()
            .map(|core| self.choice.pieces[..n_pieces].iter().flat_map(|piece| self.dispatches(*core, piece)).collect())
            .collect();
        self.uniforms.borrow().write();
        let passes: Vec<_> = dispatches
            .iter()
            .map(|dispatches| {
                let n_dispatches = dispatches.len() / n_pieces * n;
                (self.step, dispatches.iter().cycle().take(n_dispatches).collect())
            })
            .collect();
        let gpu = self.gpu;
        let seconds = if gpu.offer().timestamps { gpu.time(&passes).await? } else { gpu.clock(&passes).await? };
        Ok(seconds.into_iter().map(|seconds| seconds / n as f64).collect())
    }

    /// Which of `cores` compute the same as the first, on a small matrix.
    async fn check(&self, cores: &[Core]) -> Result<Vec<bool>> {
        use wgpu::BufferUsages as Usage;
        let layout: Layout = self.choice.pieces[0].shape.layout;
        // An even number, whichever rows make a pair.
        let n_rows = CHECK_ROWS.min(self.choice.pieces[0].shape.n_rows & !1).max(1);
        let mut blocks = Blocks::default();
        let shape = PieceShape { layout, first_row: 0, n_rows };
        let pieces = Piece::allot(self.gpu, &mut blocks, &[shape]);
        let piece = &pieces[0];
        // As f16 these are numbers between 1 and 2, as f32 around 0.01, as integers anything.
        let words = |n: usize| -> Vec<u32> { (0..n).map(|i| 0x3c00_3c00 | noise(i) & 0x03ff_03ff).collect() };
        piece.write_rows(
            self.gpu,
            0,
            &words(n_rows * layout.quants_row_words()),
            &words(n_rows * layout.aux_row_words()),
        );
        let bytes = self.y.size.min((CHECK_TOKENS * self.y_width * 4) as u64);
        let outputs = self.gpu.uncounted("check", bytes * cores.len() as u64, Usage::COPY_DST | Usage::MAP_READ);
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("check") };
        let mut encoder = self.gpu.device.create_command_encoder(&descriptor);
        for (core, i) in cores.iter().zip(0..) {
            encoder.clear_buffer(&self.y.buffer, 0, None);
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            plan::encode(&mut pass, &self.dispatches(*core, piece), &self.step);
            drop(pass);
            encoder.copy_buffer_to_buffer(&self.y.buffer, 0, &outputs, i * bytes, bytes);
        }
        self.uniforms.borrow().write();
        self.gpu.queue.submit([encoder.finish()]);
        let all: Vec<f32> = self.gpu.read(&outputs, cores.len() * bytes as usize / 4).await?;
        outputs.destroy();
        blocks.destroy(self.gpu);
        let mut all = all.chunks_exact(bytes as usize / 4);
        let expected = all.next().unwrap_or_default();
        let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, y| largest.max(y.abs()));
        let is_near = |(found, core): (&[f32], &Core)| {
            let tolerance = if core.numbers() == Numbers::F32 { EXACT_TOLERANCE } else { ROUNDED_TOLERANCE };
            // Not a number is not near.
            expected.iter().zip(found).all(|(a, b)| (a - b).abs() <= tolerance * largest)
        };
        Ok(std::iter::once(true).chain(all.zip(&cores[1..]).map(is_near)).collect())
    }

    /// The product, and before it the rounding of x if the core wants that. What they read is still to be written:
    /// [`Uniforms::write`].
    fn dispatches(&self, core: Core, piece: &Piece) -> Vec<Dispatch> {
        let pieces = std::slice::from_ref(piece);
        let params = ProductParams::new(self.config, 0, self.y_width, 0, &[piece.shape], self.choice.id);
        let (step, x, rounded) = (&self.step_part, &self.x, &self.rounded);
        let product = Product {
            core,
            id: self.choice.id,
            pieces,
            params,
            step,
            x,
            rounded,
            is_rounded: false,
            tables: x,
            norm: x,
            y: &self.y,
            cache: &self.no_cache,
        };
        product.dispatches(self.gpu, &mut self.uniforms.borrow_mut(), &mut Groups::default())
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        self.uniforms.borrow().destroy();
        self.blocks.destroy(self.gpu);
    }
}

/// What all of `futures` come to, which go on side by side.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        for (future, output) in &mut running {
            if output.is_none()
                && let Poll::Ready(found) = future.as_mut().poll(context)
            {
                *output = Some(found);
            }
        }
        if running.iter().all(|(_, output)| output.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

/// Bits that look random.
fn noise(i: usize) -> u32 {
    let mut z = (i as u32).wrapping_add(1).wrapping_mul(0x9e37_79b9);
    z = (z ^ (z >> 16)).wrapping_mul(0x85eb_ca6b);
    z ^ (z >> 13)
}
