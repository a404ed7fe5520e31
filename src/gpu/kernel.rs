//! The table of kernels: which WGSL files make one, its overrides and its bindings; and the pipelines made
//! from them, each once.
//!
//! A product's shader is what all products share, the unpacking of one dtype, the epilogues, the numbers it multiplies
//! in, and a core (`matvec`, `matmul`, `matmul_i8`, `cooperative`, `rows`, `rows_i8`), one after the other. The core
//! calls the dtype's functions (see `shaders/shared/unpack.wgsl`), the epilogues' `pair_rows` and `store_pair`, and
//! what stages x in those numbers.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::Gpu;
use super::plan::Extent;
use super::tensor::PieceShape;
use crate::format::Dtype;

macro_rules! wgsl {
    ($name:literal) => {
        include_str!(concat!("../../shaders/", $name, ".wgsl"))
    };
}

/// The directive that browsers want where subgroups are used. Naga needs none, and natively has none.
const ENABLE_SUBGROUPS: Option<&str> = if cfg!(target_arch = "wasm32") { Some("enable subgroups;") } else { None };

/// How a binding is declared in the shader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Binding {
    /// `var<uniform>`
    Uniform,
    /// The same, of which every step may have its own; always the first.
    Step,
    /// The same, in which every dispatch has its own.
    Params,
    /// `var<storage, read>`
    Read,
    /// The same, of which every layer has its own.
    ReadLayer,
    /// `var<storage, read_write>`
    Write,
    /// The same, of which every layer has its own.
    WriteLayer,
}
use Binding::{Params, Read, ReadLayer, Step, Uniform, Write, WriteLayer};

impl Binding {
    /// Whether its offset is given with each dispatch instead of being bound.
    fn has_offset(self) -> bool {
        matches!(self, Step | Params | ReadLayer | WriteLayer)
    }
}

/// What a product does with its result: `epilogue` of `shared/store.wgsl`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Epilogue {
    /// `y = W·x`
    Store,
    /// `y += W·x`
    Add,
    /// `y = silu(y) ⊙ W·x`
    Gate,
    /// `y = silu(Wg·x) ⊙ Wu·x`, the rows of both in one piece.
    GateUp,
    /// `RoPE` on queries and keys, append to the KV cache.
    Qkv,
}

impl Epilogue {
    /// How a trace names it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Add => "add",
            Self::Gate => "gate",
            Self::GateUp => "gate_up",
            Self::Qkv => "qkv",
        }
    }
}

/// The numbers that a product multiplies in. It accumulates in f32.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Numbers {
    /// As they are.
    F32,
    /// x rounded to f16 relative to the largest of sixteen, quants as they are. Needs `shader-f16`.
    F16,
    /// x rounded to eight bits relative to the largest of sixteen, of [`Core::RowsI8`] of 32, quants as they are. But for
    /// that needs `dot4I8Packed`.
    I8,
}

impl Numbers {
    /// Whether weights of `dtype` are exact in them: quants are, and in f16 its own.
    #[must_use]
    pub fn hold(self, dtype: Dtype) -> bool {
        match self {
            Self::F32 => true,
            Self::F16 => !matches!(dtype, Dtype::F32 | Dtype::BF16),
            Self::I8 => !dtype.is_float(),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::F32 => "",
            Self::F16 => "_f16",
            Self::I8 => "_i8",
        }
    }
}

/// How a product is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Core {
    /// A group of threads for a few rows and tokens.
    MatVec(MatVecShape),
    /// Tiles of [`MATMUL_PAIRS`] row pairs by [`MATMUL_TOKENS`] tokens; in [`Numbers::I8`] by twice as many, of x that
    /// [`Core::preparation`] has rounded.
    MatMul(Numbers),
    /// A thread for [`ROWS_PAIRS`] row pairs and 1 or [`ROWS_TOKENS`] tokens, in f32: for software adapters. So many
    /// lanes of a subgroup share x out: 4, 8, or 1 where each reads it by itself.
    Rows {
        /// 1 or [`ROWS_TOKENS`].
        tokens: u32,
        /// 4, 8 or 1.
        sharers: u32,
    },
    /// Tiles of [`MATMUL_PAIRS`] row pairs by [`COOPERATIVE_TOKENS`] tokens on the units for matrices of f16, of x that
    /// [`Core::preparation`] has prepared. Needs cooperative matrices and `shader-f16`.
    Cooperative,
    /// A thread for [`ROWS_PAIRS`] row pairs and [`ROWS_TOKENS`] tokens in integers, of x that [`Core::preparation`] has
    /// rounded; four lanes of a subgroup share it out. For software adapters and types of four bits.
    RowsI8,
}

impl Core {
    /// The numbers it multiplies in.
    #[must_use]
    pub fn numbers(self) -> Numbers {
        match self {
            Self::MatVec(shape) => shape.numbers,
            Self::MatMul(numbers) => numbers,
            Self::Rows { .. } => Numbers::F32,
            Self::Cooperative => Numbers::F16,
            Self::RowsI8 => Numbers::I8,
        }
    }

    /// The kernel that prepares x for it, if it wants that, with `RMSNorm` or without, and how many tokens a workgroup of
    /// that takes. Then the product has no norm.
    #[must_use]
    pub fn preparation(self, norm: bool) -> Option<(Kernel, u32)> {
        let (word, mut files, block) = match self {
            Self::RowsI8 => ("round", vec![wgsl!("round")], ROWS_TOKENS),
            Self::MatMul(Numbers::I8) => ("round_chunks", vec![wgsl!("shared/round_i8"), wgsl!("round_chunks")], 1),
            Self::Cooperative => ("halve", vec![wgsl!("halve")], 1),
            _ => return None,
        };
        files.insert(0, wgsl!("shared/rounding"));
        let kernel = Kernel {
            label: if norm { format!("{word}_norm") } else { word.into() },
            files: written(files),
            constants: vec![("NORM", norm.into())],
            bindings: numbered([Step, Params, Read, ReadLayer, Write, Write]),
        };
        Some((kernel, block))
    }

    /// Whether it computes with weights of `dtype`.
    #[must_use]
    pub fn takes(self, dtype: Dtype) -> bool {
        let has_four_bits = matches!(dtype, Dtype::Q4_0 | Dtype::Q4_1 | Dtype::Q4K);
        self.numbers().hold(dtype) && (self != Self::RowsI8 || has_four_bits)
    }

    /// Whether one dispatch can take two pieces of a matrix: rows of different types of quants that follow one another.
    #[must_use]
    pub fn takes_both(self, first: &PieceShape, second: &PieceShape) -> bool {
        let dtypes = [first, second].map(|piece| piece.layout.dtype);
        matches!(self, Self::MatVec(_))
            && dtypes[0] != dtypes[1]
            && dtypes.into_iter().all(|dtype| self.takes(dtype) && !dtype.is_float())
            && first.layout.n_chunks == second.layout.n_chunks
            && first.first_row + first.n_rows == second.first_row
    }

    /// Whether one kernel has all epilogues, with a norm and without, and the dispatch says which: for software adapters,
    /// which take long to compile a product.
    #[must_use]
    pub fn has_all_epilogues(self) -> bool {
        matches!(self, Self::RowsI8 | Self::Rows { .. })
    }

    /// How a label names it, such as `"matvec_32x2x1x1_i8"`.
    #[must_use]
    pub fn label(self) -> String {
        match self {
            Self::MatVec(MatVecShape { lanes, groups, pairs, tokens, joined, numbers }) => {
                let joined = if joined > 1 { format!("_joined{joined}") } else { String::new() };
                format!("matvec_{lanes}x{groups}x{pairs}x{tokens}{joined}{}", numbers.word())
            }
            Self::MatMul(numbers) => format!("matmul{}", numbers.word()),
            Self::Rows { tokens, sharers } => format!("rows_{tokens}{}", shared_word(sharers)),
            Self::RowsI8 => format!("rows_{ROWS_TOKENS}_shared4_i8"),
            Self::Cooperative => "cooperative".into(),
        }
    }

    /// The grid for `n_pairs` row pairs.
    #[must_use]
    pub fn grid(self, n_pairs: u32) -> [Extent; 3] {
        let (pairs, tokens) = match self {
            Self::MatVec(shape) => (shape.groups * shape.pairs, shape.tokens),
            Self::MatMul(Numbers::I8) => (MATMUL_PAIRS, 2 * MATMUL_TOKENS),
            Self::MatMul(_) => (MATMUL_PAIRS, MATMUL_TOKENS),
            Self::Cooperative => (MATMUL_PAIRS, COOPERATIVE_TOKENS),
            Self::Rows { tokens, .. } => (ROWS_THREADS * ROWS_PAIRS, tokens),
            Self::RowsI8 => (ROWS_THREADS * ROWS_PAIRS, ROWS_TOKENS),
        };
        [Extent::Fixed(n_pairs.div_ceil(pairs)), Extent::Tokens { each: 1, block: tokens }, Extent::Fixed(1)]
    }

    /// The file of what a dtype's quants are unpacked to. F16 takes those of f32.
    fn quants_file(self) -> &'static str {
        match self {
            Self::Rows { sharers: 4, .. } => wgsl!("shared/quants_masked"),
            _ if self.numbers() == Numbers::I8 => wgsl!("shared/quants_i8"),
            _ => wgsl!("shared/quants_f32"),
        }
    }

    /// The files that stage x and multiply in its numbers.
    fn number_files(self) -> Vec<&'static str> {
        let files = match self {
            Self::MatVec(MatVecShape { numbers: Numbers::I8, .. }) => {
                vec![wgsl!("shared/round_i8"), wgsl!("shared/x_i8")]
            }
            Self::MatVec(_) => vec![wgsl!("shared/x_f32")],
            Self::MatMul(Numbers::F32) => vec![wgsl!("shared/tile_f32")],
            Self::MatMul(Numbers::F16) => vec![wgsl!("shared/tile_f16")],
            Self::Rows { sharers: 1, .. } => vec![wgsl!("shared/x8_own")],
            Self::Rows { .. } => vec![wgsl!("shared/share8"), wgsl!("shared/x8_shared")],
            Self::RowsI8 => return vec![wgsl!("shared/share8")],
            Self::MatMul(Numbers::I8) | Self::Cooperative => return vec![],
        };
        [vec![wgsl!("shared/x_plain")], files].concat()
    }
}

/// The shape of a matrix-vector workgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MatVecShape {
    /// Threads that share a group of row pairs, a power of two.
    pub lanes: u32,
    /// Groups a workgroup.
    pub groups: u32,
    /// Row pairs a group: 1, 2 or 4.
    pub pairs: u32,
    /// Tokens a group: 1 or 4.
    pub tokens: u32,
    /// Lanes whose sums a subgroup adds up, a power of two; 1 without subgroups.
    pub joined: u32,
    /// F32 or I8.
    pub numbers: Numbers,
}

impl Default for MatVecShape {
    fn default() -> Self {
        Self { lanes: 32, groups: 2, pairs: 1, tokens: 1, joined: 1, numbers: Numbers::F32 }
    }
}

/// Row pairs in a tile of `matmul.wgsl`.
pub const MATMUL_PAIRS: u32 = 32;
/// Tokens in a tile of `matmul.wgsl`.
pub const MATMUL_TOKENS: u32 = 32;
/// Tokens in a tile of `cooperative.wgsl`.
pub const COOPERATIVE_TOKENS: u32 = 128;
/// Workgroup memory of `cooperative.wgsl`, in bytes.
pub const COOPERATIVE_MEMORY: u32 = 32 << 10;
/// Threads in a workgroup of `rows.wgsl`: what processors compute at a time.
const ROWS_THREADS: u32 = 8;
/// Row pairs a thread of `rows.wgsl`.
pub const ROWS_PAIRS: u32 = 4;
/// Most tokens a thread of `rows.wgsl`.
pub const ROWS_TOKENS: u32 = 8;
/// Chunks in a workgroup of `embed.wgsl`.
pub const EMBED_CHUNKS: u32 = 64;
/// Most query rows in a block of `attention.wgsl`.
pub const ATTENTION_ROWS: u32 = 8;
/// Teams of `attention.wgsl` for one token on a GPU.
const ATTENTION_TEAMS: u32 = 4;

/// A kernel in one of its variants: what a pipeline is made from.
#[derive(Clone, PartialEq, Debug)]
pub struct Kernel {
    /// Spells the variant; equal labels are equal kernels.
    pub label: String,
    files: Vec<Cow<'static, str>>,
    constants: Vec<(&'static str, f64)>,
    /// By their numbers, in ascending order.
    bindings: Vec<(u32, Binding)>,
}

impl Kernel {
    /// The embedding lookup in a matrix of `dtype`.
    #[must_use]
    pub fn embed(dtype: Dtype) -> Self {
        let files = [vec![wgsl!("embed"), wgsl!("shared/quants_f32")], unpacking(dtype)].concat();
        Self {
            label: format!("embed_{}", dtype_word(dtype)),
            files: written(files),
            constants: vec![],
            bindings: numbered([Uniform, Read, Read, Read, Write]),
        }
    }

    /// A product with a matrix of `dtype`; with `norm`, `RMSNorm` is applied to x first. Where the core
    /// [has all epilogues](Core::has_all_epilogues), the kernels for all are one, with a norm and without.
    #[must_use]
    pub fn product(core: Core, dtype: Dtype, epilogue: Epilogue, norm: bool) -> Self {
        Self::product_of(core, &[dtype], epilogue, norm)
    }

    /// A product with a matrix whose first rows are of one type of quants and whose others are of another, for
    /// [`Core::MatVec`].
    #[must_use]
    pub fn product_of_two(core: Core, dtypes: [Dtype; 2], epilogue: Epilogue, norm: bool) -> Self {
        Self::product_of(core, &dtypes, epilogue, norm)
    }

    fn product_of(core: Core, dtypes: &[Dtype], epilogue: Epilogue, norm: bool) -> Self {
        let (core_file, mut constants) = match core {
            Core::MatVec(MatVecShape { lanes, groups, pairs, tokens, joined, .. }) => {
                let mut constants = vec![
                    ("LANES", lanes.into()),
                    ("GROUPS", groups.into()),
                    ("PAIRS", pairs.into()),
                    ("TOKENS", tokens.into()),
                    ("THREADS", (lanes * groups).into()),
                    ("SUMS", (lanes * groups * tokens * (2 * pairs + 1)).into()),
                ];
                if joined > 1 {
                    constants.push(("JOINED", joined.into()));
                }
                (wgsl!("matvec"), constants)
            }
            Core::MatMul(Numbers::I8) => (wgsl!("matmul_i8"), vec![]),
            Core::MatMul(_) => (wgsl!("matmul"), vec![]),
            Core::Cooperative => (wgsl!("cooperative"), vec![]),
            Core::Rows { tokens, sharers } => {
                let mut constants =
                    vec![("THREADS", ROWS_THREADS.into()), ("PAIRS", ROWS_PAIRS.into()), ("TOKENS", tokens.into())];
                if sharers > 1 {
                    constants.push(("SHARERS", sharers.into()));
                }
                (wgsl!("rows"), constants)
            }
            Core::RowsI8 => (wgsl!("rows_i8"), vec![("THREADS", ROWS_THREADS.into()), ("SHARERS", 4.0)]),
        };
        // The core comes last: Naga 30 stumbles over an override-sized array that is declared before a struct.
        let mut files = Vec::new();
        if core.numbers() == Numbers::F16 {
            files.push("enable f16;");
        }
        if core == Core::Cooperative {
            files.push("enable wgpu_cooperative_matrix;");
        }
        match core {
            Core::MatVec(MatVecShape { joined: 2.., .. }) => {
                files.extend(ENABLE_SUBGROUPS);
                files.push(wgsl!("shared/join_subgroups"));
            }
            Core::MatVec(_) => files.push(wgsl!("shared/join_plain")),
            Core::Rows { sharers: 2.., .. } | Core::RowsI8 => files.extend(ENABLE_SUBGROUPS),
            Core::MatMul(_) | Core::Cooperative | Core::Rows { .. } => {}
        }
        files.extend([wgsl!("shared/product"), core.quants_file()]);
        let mut files = written(files);
        files.extend(match *dtypes {
            [first, second] => unpacking_of_two([first, second]),
            _ => written(dtypes.iter().flat_map(|dtype| unpacking(*dtype))),
        });
        files.extend(written(core.number_files()));
        files.extend(written(epilogue_files(core, epilogue)));
        files.push(core_file.into());
        // That of prepared x is the same with and without.
        let is_prepared = core.preparation(norm).is_some();
        let has_constant = !is_prepared && !core.has_all_epilogues();
        let dtype_words: Vec<_> = dtypes.iter().map(|dtype| dtype_word(*dtype)).collect();
        let mut label = format!("{}_{}", core.label(), dtype_words.join("_and_"));
        if has_constant {
            constants.push(("NORM", norm.into()));
            label += if norm { "_norm" } else { "" };
        }
        if !core.has_all_epilogues() {
            label = format!("{label}_{}", epilogue.word());
            constants.push(("EPILOGUE", (epilogue as u32).into()));
        }
        // See shared/product.wgsl, shared/store_qkv.wgsl and shared/two_types.wgsl.
        let mut bindings = numbered([Step, Params, Read, Read, ReadLayer, ReadLayer, Write]);
        if is_prepared {
            bindings.push((7, Read));
        }
        if core.has_all_epilogues() || epilogue == Epilogue::Qkv {
            bindings.push((8, WriteLayer));
        }
        if dtypes.len() > 1 {
            bindings.extend([(9, Read), (10, Read)]);
        }
        Self { label, files, constants, bindings }
    }

    /// Attention for blocks of `rows` query rows, at most [`ATTENTION_ROWS`], of `head_vecs` vec4 each; what all
    /// threads need, so many lanes of a subgroup share out among them: 4, 8, or 1 where each reads it by itself. That
    /// many `teams` of threads go through the cache side by side.
    #[must_use]
    pub fn attention(rows: u32, head_vecs: u32, sharers: u32, teams: u32) -> Self {
        let threads = attention_threads(head_vecs, sharers);
        let mut constants = vec![
            ("ROWS", rows.into()),
            ("P_SIZE", (teams * rows * 64).into()),
            ("HEAD_VECS", head_vecs.into()),
            ("THREADS", threads.into()),
            ("TEAMS", teams.into()),
            ("WIDTH", (teams * threads).into()),
            ("STATES", (teams * 8).into()),
        ];
        if teams > 1 {
            constants.push(("TEAM_WORDS", (teams * threads).into()));
        }
        let mut files = Vec::new();
        if sharers > 1 {
            constants.push(("SHARERS", sharers.into()));
            files.extend(ENABLE_SUBGROUPS);
            files.extend([wgsl!("shared/share8"), wgsl!("shared/eight_shared")]);
        } else {
            constants.push(("Q_VECS", (rows * head_vecs).into()));
            files.push(wgsl!("shared/eight_own"));
        }
        let teams = if teams > 1 { format!("x{teams}") } else { String::new() };
        let label = format!("attention_{rows}x{head_vecs}{teams}{}", shared_word(sharers));
        files.push(wgsl!("attention"));
        let bindings = numbered([Step, Params, Read, ReadLayer, ReadLayer, Write, Write]);
        Self { label, files: written(files), constants, bindings }
    }

    /// The join of attention's slices, at most `most`, by workgroups of `threads`, a multiple of 64.
    #[must_use]
    pub fn attention_combine(threads: u32, most: u32) -> Self {
        Self {
            label: format!("attention_combine_{threads}x{most}"),
            files: written([wgsl!("attention_combine")]),
            constants: vec![
                ("THREADS", threads.into()),
                ("PARTS", if threads > 64 { threads.into() } else { 1.0 }),
                ("MOST", most.into()),
            ],
            bindings: numbered([Step, Params, Read, Write]),
        }
    }

    /// The choice of the next token, by a workgroup of `threads`, a power of two and at most 256, that sorts
    /// logarithms into `bins`.
    #[must_use]
    pub fn sample(threads: u32, bins: u32) -> Self {
        Self {
            label: format!("sample_{threads}x{bins}"),
            files: written([wgsl!("sample")]),
            constants: vec![("THREADS", threads.into()), ("BINS", bins.into())],
            bindings: numbered([Uniform, Read, Read, Write, Write, Write]),
        }
    }

    /// A copy, 256 vec4 a workgroup.
    #[must_use]
    pub fn copy() -> Self {
        let bindings = numbered([Read, Write]);
        Self { label: "copy".into(), files: written([wgsl!("copy")]), constants: vec![], bindings }
    }

    /// Multiplications and additions, 16 vec4 of either a round.
    #[must_use]
    pub fn multiply_add(rounds: u32) -> Self {
        Self {
            label: "multiply_add".into(),
            files: written([wgsl!("multiply_add")]),
            constants: vec![("ROUNDS", rounds.into())],
            bindings: numbered([Write]),
        }
    }

    /// The whole WGSL source.
    #[must_use]
    pub fn source(&self) -> String {
        self.files.join("\n")
    }
}

/// Threads in a team of attention: one has at most two words of V, of which a row has two for each vec4 of f32.
fn attention_threads(head_vecs: u32, sharers: u32) -> u32 {
    if sharers > 1 && head_vecs <= 32 { 32 } else { 64 }
}

/// Teams of attention for one token on a GPU: four, if workgroup memory holds what they need.
#[must_use]
pub fn attention_teams(rows: u32, head_vecs: u32) -> u32 {
    const MEMORY: u32 = 16 << 10;
    let threads = attention_threads(head_vecs, 1);
    let numbers = ATTENTION_TEAMS * (rows * 64 + 3 * threads + 3 * 8) + 4 * rows * head_vecs;
    if 4 * numbers <= MEMORY { ATTENTION_TEAMS } else { 1 }
}

fn shared_word(sharers: u32) -> String {
    if sharers > 1 { format!("_shared{sharers}") } else { String::new() }
}

/// Files as they are written.
fn written(files: impl IntoIterator<Item = &'static str>) -> Vec<Cow<'static, str>> {
    files.into_iter().map(Cow::Borrowed).collect()
}

/// Bindings from 0 on.
fn numbered(kinds: impl IntoIterator<Item = Binding>) -> Vec<(u32, Binding)> {
    (0..).zip(kinds).collect()
}

/// The files that store what a product comes to.
fn epilogue_files(core: Core, epilogue: Epilogue) -> Vec<&'static str> {
    let (plain, qkv) = (wgsl!("shared/store_plain"), wgsl!("shared/store_qkv"));
    let files = match epilogue {
        _ if core.has_all_epilogues() => vec![plain, qkv, wgsl!("shared/store_rows")],
        Epilogue::Qkv => vec![qkv, wgsl!("shared/store_pair_qkv")],
        _ => vec![plain, wgsl!("shared/store_pair_plain")],
    };
    [vec![wgsl!("shared/store")], files].concat()
}

/// The files that unpack a dtype.
fn unpacking(dtype: Dtype) -> Vec<&'static str> {
    [common_files(&[dtype]), dtype_files(dtype)].concat()
}

/// The files that unpack two dtypes of quants, either with names of its own: `shared/two_types.wgsl` chooses by the row.
fn unpacking_of_two(dtypes: [Dtype; 2]) -> Vec<Cow<'static, str>> {
    const OWN: [&str; 6] = ["weights32", "scales", "quants8", "quants", "aux", "Aux"];
    let [first, second] = dtypes.map(|dtype| dtype_files(dtype).into_iter());
    let first = first.map(|file| Cow::Owned(renamed(file, &OWN[..1], "_first")));
    let second = second.map(|file| Cow::Owned(renamed(file, &OWN, "_second")));
    let mut files = written(common_files(&dtypes));
    files.extend(first.chain(second));
    files.push(wgsl!("shared/two_types").into());
    files
}

/// A file with `suffix` at the end of `names`.
fn renamed(file: &str, names: &[&str], suffix: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut all = String::with_capacity(file.len() + 256);
    let mut rest = file;
    while let Some(begin) = rest.find(is_part) {
        let end = rest[begin..].find(|c| !is_part(c)).map_or(rest.len(), |len| begin + len);
        all += &rest[..end];
        if names.contains(&&rest[begin..end]) {
            all += suffix;
        }
        rest = &rest[end..];
    }
    all + rest
}

/// What dtypes' files use.
fn common_files(dtypes: &[Dtype]) -> Vec<&'static str> {
    let mut files = vec![wgsl!("shared/unpack")];
    if dtypes.iter().any(|dtype| matches!(dtype, Dtype::Q4K | Dtype::Q5K)) {
        files.push(wgsl!("shared/scale_min"));
    }
    files
}

/// What a dtype has of its own.
fn dtype_files(dtype: Dtype) -> Vec<&'static str> {
    let mut files = vec![dtype_file(dtype)];
    // How its aux plane is loaded: Q4_K's by blocks.
    if dtype != Dtype::Q4K {
        files.push("alias Aux = u32;");
    }
    if dtype.is_float() {
        files.push(wgsl!("shared/floats32"));
    }
    files
}

fn dtype_file(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => wgsl!("shared/f32"),
        Dtype::F16 => wgsl!("shared/f16"),
        Dtype::BF16 => wgsl!("shared/bf16"),
        Dtype::Q4_0 => wgsl!("shared/q4_0"),
        Dtype::Q4_1 => wgsl!("shared/q4_1"),
        Dtype::Q5_0 => wgsl!("shared/q5_0"),
        Dtype::Q5_1 => wgsl!("shared/q5_1"),
        Dtype::Q8_0 => wgsl!("shared/q8_0"),
        Dtype::Q2K => wgsl!("shared/q2_k"),
        Dtype::Q3K => wgsl!("shared/q3_k"),
        Dtype::Q4K => wgsl!("shared/q4_k"),
        Dtype::Q5K => wgsl!("shared/q5_k"),
        Dtype::Q6K => wgsl!("shared/q6_k"),
    }
}

fn dtype_word(dtype: Dtype) -> String {
    dtype.name().to_lowercase()
}

/// A compiled kernel.
#[derive(Debug)]
pub struct Pipeline {
    /// The kernel's label.
    pub label: String,
    pub(super) compiled: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    bindings: Vec<(u32, Binding)>,
}

impl Pipeline {
    pub(super) fn new(device: &wgpu::Device, kernel: &Kernel) -> Self {
        let label = Some(kernel.label.as_str());
        let source = wgpu::ShaderSource::Wgsl(kernel.source().into());
        let module = create_module(device, wgpu::ShaderModuleDescriptor { label, source });
        let group_layout = layout(device, label, &kernel.bindings);
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&group_layout)],
            immediate_size: 0,
        });
        let compiled = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &kernel.constants,
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        Self { label: kernel.label.clone(), compiled, layout: group_layout, bindings: kernel.bindings.clone() }
    }

    /// Whether each binding has an offset of the dispatch's own, which does not count to what is bound.
    pub(super) fn have_offsets(&self) -> impl Iterator<Item = bool> {
        self.bindings.iter().map(|(_, kind)| kind.has_offset())
    }

    /// Whether it reads the numbers of a step.
    pub(super) fn has_step(&self) -> bool {
        self.bindings.iter().any(|(_, kind)| *kind == Step)
    }

    /// Binds parts of buffers, in the order of the bindings.
    pub(super) fn bind<'a>(
        &self,
        gpu: &Gpu,
        parts: impl IntoIterator<Item = wgpu::BufferBinding<'a>>,
    ) -> wgpu::BindGroup {
        let entries: Vec<_> = parts
            .into_iter()
            .zip(&self.bindings)
            .map(|(part, (binding, _))| wgpu::BindGroupEntry {
                binding: *binding,
                resource: wgpu::BindingResource::Buffer(part),
            })
            .collect();
        gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&self.label),
            layout: &self.layout,
            entries: &entries,
        })
    }
}

/// Native wgpu guards every loop with a counter against endless ones, which keeps drivers from unrolling; the
/// kernels' loops all have bounds. Browsers decide for themselves.
fn create_module(device: &wgpu::Device, descriptor: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
    let mut checks = wgpu::ShaderRuntimeChecks::checked();
    checks.force_loop_bounding = false;
    // SAFETY: every loop in shaders/ ends: it counts up to a bound that does not change, or halves a count.
    unsafe { device.create_shader_module_trusted(descriptor, checks) }
}

fn layout(device: &wgpu::Device, label: Option<&str>, bindings: &[(u32, Binding)]) -> wgpu::BindGroupLayout {
    let entries: Vec<_> = bindings
        .iter()
        .map(|(binding, kind)| wgpu::BindGroupLayoutEntry {
            binding: *binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match kind {
                    Uniform | Step | Params => wgpu::BufferBindingType::Uniform,
                    Read | ReadLayer => wgpu::BufferBindingType::Storage { read_only: true },
                    Write | WriteLayer => wgpu::BufferBindingType::Storage { read_only: false },
                },
                has_dynamic_offset: kind.has_offset(),
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries })
}

/// All pipelines of a device, each made once.
#[derive(Debug, Default)]
pub(super) struct Pipelines {
    made: RefCell<HashMap<String, Rc<Pipeline>>>,
    #[cfg(not(target_arch = "wasm32"))]
    ahead: RefCell<super::ahead::Ahead>,
}

impl Pipelines {
    /// The pipeline for `kernel`: compiled now unless it is there or on its way.
    pub(super) fn get(&self, device: &wgpu::Device, kernel: &Kernel) -> Rc<Pipeline> {
        #[cfg(not(target_arch = "wasm32"))]
        while self.is_under_way(&kernel.label) {
            self.keep(true);
        }
        let mut made = self.made.borrow_mut();
        let entry = made.entry(kernel.label.clone()).or_insert_with(|| Rc::new(Pipeline::new(device, kernel)));
        Rc::clone(entry)
    }
}

#[cfg(target_arch = "wasm32")]
impl Pipelines {
    /// How many were made.
    pub(super) fn len(&self) -> usize {
        self.made.borrow().len()
    }

    /// Has the browser compile a pipeline.
    pub(super) fn request(&self, device: &wgpu::Device, kernel: &Kernel) {
        let _compiled = self.get(device, kernel);
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Pipelines {
    /// How many were made, or are being made.
    pub(super) fn len(&self) -> usize {
        self.made.borrow().len() + self.ahead.borrow().len()
    }

    /// Has a pipeline compiled while other things go on.
    pub(super) fn request(&self, device: &wgpu::Device, kernel: &Kernel) {
        if !self.made.borrow().contains_key(&kernel.label) && !self.is_under_way(&kernel.label) {
            self.ahead.borrow_mut().request(device, kernel.clone());
        }
    }

    /// Whether any is being made.
    pub(super) fn is_compiling(&self) -> bool {
        self.keep(false);
        self.ahead.borrow().len() > 0
    }

    /// Waits until none is.
    pub(super) fn wait(&self) {
        while self.is_compiling() {
            self.keep(true);
        }
    }

    fn is_under_way(&self, label: &str) -> bool {
        self.ahead.borrow().is_under_way(label)
    }

    /// Keeps what is compiled by now, or first waits for one.
    fn keep(&self, waits: bool) {
        let compiled = self.ahead.borrow_mut().take(waits);
        let compiled = compiled.into_iter().map(|pipeline| (pipeline.label.clone(), Rc::new(pipeline)));
        self.made.borrow_mut().extend(compiled);
    }
}
