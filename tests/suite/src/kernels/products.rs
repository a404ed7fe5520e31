//! `matvec`, `matmul`, `cooperative`, `rows` and `rows_i8` with every dtype and every epilogue.

use helium_webgpu::format::Dtype;
use helium_webgpu::gpu::kernel::{Core, Epilogue, Kernel, MatVecShape, Numbers};
use helium_webgpu::gpu::plan::Step;

use super::weights::Weights;
use super::{Want, check, untouched};
use crate::gpu::{POISON, Random, Runner};
use crate::reference::{Bounded, store};
use crate::{Case, Outcome};

pub(super) fn cases() -> Vec<Case> {
    let tiled = MatVecShape { lanes: 8, groups: 4, pairs: 4, tokens: 4, ..MatVecShape::default() };
    let cores = [
        ("matvec", Core::MatVec(MatVecShape::default())),
        // Several row pairs and tokens a group.
        ("matvec_tiled", Core::MatVec(tiled)),
        ("matmul", Core::MatMul(Numbers::F32)),
        ("rows_1", Core::Rows { tokens: 1, sharers: 1 }),
        ("rows_8", Core::Rows { tokens: 8, sharers: 1 }),
        ("rows_i8", Core::RowsI8),
        ("matvec_i8", Core::MatVec(MatVecShape { groups: 8, numbers: Numbers::I8, ..MatVecShape::default() })),
        ("matvec_tiled_i8", Core::MatVec(MatVecShape { pairs: 2, numbers: Numbers::I8, ..tiled })),
        ("matmul_f16", Core::MatMul(Numbers::F16)),
        ("matmul_i8", Core::MatMul(Numbers::I8)),
        ("cooperative", Core::Cooperative),
    ];
    let mut cases = Vec::new();
    for (word, core) in cores {
        for dtype in Dtype::ALL.into_iter().filter(|dtype| core.takes(*dtype)) {
            let name = format!("{word}_{}", dtype.name().to_lowercase());
            cases.push(Case::new(name.clone(), move || every_shape(name, core, dtype)));
        }
        // What an epilogue does with a product is the same for every dtype.
        let name = format!("{word}_epilogues");
        cases.push(Case::new(name.clone(), move || every_epilogue(name, core, Dtype::Q4_1)));
    }
    cases.push(Case::new("rows_i8_most", rows_i8_most));
    cases.push(Case::new("rows_shared", || rows_shared("rows_shared".into())));
    cases.push(Case::new("halve", halve));
    for (name, numbers) in [("matvec_two_types", Numbers::F32), ("matvec_two_types_i8", Numbers::I8)] {
        cases.push(Case::new(name, move || two_types(name.into(), numbers)));
    }
    for (name, numbers) in [("matvec_workgroups", Numbers::F32), ("matvec_workgroups_i8", Numbers::I8)] {
        cases.push(Case::new(name, move || every_workgroup(name.into(), Dtype::Q4_0, numbers)));
    }
    cases
}

/// A device that has what `core` needs, and whether it has.
async fn runner(core: Core) -> Result<(Runner, bool), String> {
    let runner = Runner::open(core.numbers() == Numbers::F32).await?;
    let offer = runner.offer();
    let has_numbers = match core.numbers() {
        _ if core == Core::RowsI8 => offer.subgroup >= 4,
        _ if core == Core::Cooperative => offer.cooperative,
        Numbers::F32 => true,
        Numbers::F16 => offer.f16,
        Numbers::I8 => offer.packed_dot,
    };
    Ok((runner, has_numbers))
}

/// Rows, of columns, from a row of the whole matrix on; tokens, from a row of x on.
#[derive(Clone, Copy)]
struct Shape {
    n_rows: usize,
    cols: usize,
    first_row: usize,
    n_tokens: usize,
    first_token: usize,
}

impl Shape {
    const fn new(n_rows: usize, cols: usize, first_row: usize, n_tokens: usize, first_token: usize) -> Self {
        Self { n_rows, cols, first_row, n_tokens, first_token }
    }
}

/// Widths that `dtype` can have, with odd numbers of chunks or blocks and, for floats, columns past the last
/// whole chunk.
fn widths(dtype: Dtype) -> [usize; 6] {
    match dtype.block_len() {
        1 => [32, 60, 172, 1757, 256, 97],
        32 => [32, 64, 96, 160, 768, 512],
        _ => [256, 512, 768, 256, 1280, 768],
    }
}

fn shapes(core: Core, dtype: Dtype) -> [Shape; 6] {
    let widths = widths(dtype);
    match core {
        Core::MatVec(MatVecShape { tokens: 1, .. }) | Core::Rows { tokens: 1, .. } => [
            Shape::new(1, widths[0], 0, 1, 0),
            Shape::new(2, widths[1], 3, 2, 0),
            Shape::new(3, widths[2], 1, 1, 2),
            Shape::new(7, widths[3], 0, 5, 1),
            Shape::new(515, widths[4], 0, 1, 0),
            Shape::new(172, widths[5], 64, 2, 0),
        ],
        _ => [
            Shape::new(1, widths[0], 0, 5, 0),
            Shape::new(2, widths[1], 3, 1, 0),
            Shape::new(3, widths[2], 1, 2, 2),
            Shape::new(7, widths[3], 0, 33, 1),
            Shape::new(515, widths[4], 0, 5, 0),
            Shape::new(172, widths[5], 64, 70, 0),
        ],
    }
}

async fn every_shape(name: String, core: Core, dtype: Dtype) -> Outcome {
    let (runner, has_numbers) = runner(core).await?;
    if !has_numbers {
        return crate::left_out("this adapter does not have its numbers, subgroups or matrices");
    }
    let mut random = Random::new(&name);
    for shape in shapes(core, dtype) {
        let weights = Weights::new(&runner, dtype, shape.n_rows, shape.cols, &mut random)?;
        let input = Input::new(&runner, shape, &mut random);
        plain(&runner, core, &[&weights], &input, Epilogue::Store, true, &mut random).await?;
    }
    Ok(())
}

async fn every_epilogue(name: String, core: Core, dtype: Dtype) -> Outcome {
    let (runner, has_numbers) = runner(core).await?;
    if !has_numbers {
        return crate::left_out("this adapter does not have its numbers, subgroups or matrices");
    }
    let mut random = Random::new(&name);
    let widths = widths(dtype);
    // Every epilogue with two shapes; the rows of gate and up are as many each.
    for (i, shape) in shapes(core, dtype).into_iter().enumerate() {
        for which in [i, i + 2] {
            let is_fused = which % 5 == 4;
            let n_rows = if is_fused { 2 * shape.n_rows } else { shape.n_rows };
            let weights = Weights::new(&runner, dtype, n_rows, shape.cols, &mut random)?;
            let input = Input::new(&runner, shape, &mut random);
            let (epilogue, has_norm) = [
                (Epilogue::Store, false),
                (Epilogue::Store, true),
                (Epilogue::Add, false),
                (Epilogue::Gate, true),
                (Epilogue::GateUp, true),
            ][which % 5];
            if is_fused {
                gate_up(&runner, core, &[&weights], &input).await?;
            } else {
                plain(&runner, core, &[&weights], &input, epilogue, has_norm, &mut random).await?;
            }
        }
    }
    let is_one_by_one = matches!(core, Core::MatVec(MatVecShape { tokens: 1, .. }) | Core::Rows { tokens: 1, .. });
    let n_tokens = if is_one_by_one { [1, 2, 3, 1] } else { [5, 33, 1, 2] };
    let qkv_shapes = [
        // All of Q, K and V; the rest of Q with K and V; K and V; V alone.
        Heads { head_dim: 12, n_q: 5, n_kv: 1, first: 0, cols: widths[0], n_tokens: n_tokens[0], pos: 0 },
        Heads { head_dim: 20, n_q: 6, n_kv: 2, first: 1, cols: widths[1], n_tokens: n_tokens[1], pos: 5 },
        Heads { head_dim: 64, n_q: 2, n_kv: 2, first: 2, cols: widths[2], n_tokens: n_tokens[2], pos: 63 },
        Heads { head_dim: 128, n_q: 3, n_kv: 1, first: 4, cols: widths[0], n_tokens: n_tokens[3], pos: 300 },
    ];
    for heads in &qkv_shapes {
        qkv(&runner, core, &[dtype], heads, &mut random).await?;
    }
    Ok(())
}

/// What prepares x for cooperative matrices, by itself, since every device can run it.
async fn halve() -> Outcome {
    let runner = Runner::open(true).await?;
    let mut random = Random::new("halve");
    for (cols, has_norm) in [(60, false), (1757, true), (8192, true)] {
        let input = Input::new(&runner, Shape::new(1, cols, 0, 3, 2), &mut random);
        let Shape { n_tokens, first_token, .. } = input.shape;
        let (kernel, _) = Core::Cooperative.preparation(has_norm).ok_or("it prepares nothing")?;
        // pos, n_tokens, first_token, slice_len; n_chunks, x_stride, cols, eps
        let step = runner.uniform("step", &[0, n_tokens as u32, first_token as u32, 1]);
        let sizes = [input.stride / 32, input.stride / 4, cols].map(|n| n as u32);
        let params = runner.uniform("params", &[sizes[0], sizes[1], sizes[2], input.eps.to_bits()]);
        let [words, scales] = [n_tokens * input.stride / 2, n_tokens].map(|len| runner.poisoned("halves", len));
        let buffers = [&step, &params, &input.x_buffer, &input.norm_buffer, &words, &scales];
        runner.run(&kernel, &buffers, [1, n_tokens as u32, 1]);

        let (words, scales) = (runner.read(&words).await?, runner.read(&scales).await?);
        let halves: &[half::f16] = bytemuck::cast_slice(&words);
        for (token, x) in input.x.chunks_exact(input.stride).enumerate() {
            let scale = f64::from(f32::from_bits(scales[token]));
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / cols as f64;
            let rms = if has_norm { (mean + f64::from(input.eps)).sqrt() } else { 1.0 };
            for (col, (x, g)) in x.iter().zip(&input.norm).enumerate() {
                let g = if has_norm { f64::from(*g) } else { 1.0 };
                let expected = f64::from(*x) * g / rms;
                let found = f64::from(halves[token * input.stride + col]) * scale;
                // f16 rounds by 2^-11 of a number, f32 by little more; below 2^-14 of the largest it has steps of 2^-24.
                let error = 1.1 * 2.0_f64.powi(-11) * expected.abs() + 2.0_f64.powi(-24) * scale;
                if (found - expected).abs() > error || found.is_nan() {
                    return Err(format!("x[{token}, {col}] of {cols}: {found}, expected {expected} ± {error}"));
                }
            }
        }
        // One word after the last is the guard's.
        if (words[n_tokens * input.stride / 2], scales[n_tokens]) != (POISON, POISON) {
            return Err("something was written past the end".into());
        }
    }
    Ok(())
}

/// x shared out by lanes, with every type, where the device has subgroups.
async fn rows_shared(name: String) -> Outcome {
    let runner = Runner::open(false).await?;
    let subgroup = runner.offer().subgroup;
    if subgroup < 4 {
        return crate::left_out("this adapter has no subgroups of four lanes");
    }
    let mut random = Random::new(&name);
    for sharers in [4, 8].into_iter().filter(|sharers| *sharers <= subgroup) {
        for dtype in Dtype::ALL {
            let widths = widths(dtype);
            for (tokens, shape) in [(1, Shape::new(7, widths[3], 2, 2, 1)), (8, Shape::new(172, widths[5], 0, 9, 0))] {
                let core = Core::Rows { tokens, sharers };
                let weights = Weights::new(&runner, dtype, shape.n_rows, shape.cols, &mut random)?;
                let input = Input::new(&runner, shape, &mut random);
                plain(&runner, core, &[&weights], &input, Epilogue::Store, true, &mut random).await?;
            }
        }
    }
    Ok(())
}

/// Two tokens in a word, whose sums are as large as they can be: neither may run into the other.
async fn rows_i8_most() -> Outcome {
    let (runner, has_numbers) = runner(Core::RowsI8).await?;
    if !has_numbers {
        return crate::left_out("this adapter has no subgroups of four lanes");
    }
    let mut random = Random::new("rows_i8_most");
    // A row of the lowest quants, which are -8, and one of the highest, 7; the scale is 1.
    let (n_rows, cols) = (2, 64);
    let block = |quants: u8| [&[0x00, 0x3c][..], &[quants; 16]].concat();
    let bytes = [0x00, 0xff].map(|quants| block(quants).repeat(cols / 32)).concat();
    let weights = Weights::of(&runner, Dtype::Q4_0, &bytes, n_rows, cols)?;
    let x = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]].concat();
    let x = x.iter().flat_map(|x| vec![*x; cols]).collect();
    let input = Input::of(&runner, Shape::new(n_rows, cols, 0, 8, 0), x, vec![1.0; cols]);
    plain(&runner, Core::RowsI8, &[&weights], &input, Epilogue::Store, false, &mut random).await
}

/// Matrices whose first rows are of another type than the others, which may begin within a workgroup.
async fn two_types(name: String, numbers: Numbers) -> Outcome {
    let core = Core::MatVec(MatVecShape { groups: 4, numbers, ..MatVecShape::default() });
    let (runner, has_numbers) = runner(core).await?;
    if !has_numbers {
        return crate::left_out("this adapter has no dot4I8Packed");
    }
    let mut random = Random::new(&name);
    for (dtypes, cols) in [
        // As Q4_K_M and Q5_K_M have them; then types that share the function of their scales, and that do not.
        ([Dtype::Q4K, Dtype::Q6K], 512),
        ([Dtype::Q5K, Dtype::Q6K], 256),
        ([Dtype::Q4K, Dtype::Q5K], 256),
        ([Dtype::Q8_0, Dtype::Q4K], 256),
        ([Dtype::Q5_0, Dtype::Q8_0], 96),
        ([Dtype::Q4_0, Dtype::Q4_1], 160),
    ] {
        for [n_first, n_second] in [[2, 1], [12, 30], [64, 7]] {
            let first = Weights::new(&runner, dtypes[0], n_first, cols, &mut random)?;
            let second = Weights::new(&runner, dtypes[1], n_second, cols, &mut random)?;
            let input = Input::new(&runner, Shape::new(n_first + n_second, cols, 5, 1, 1), &mut random);
            plain(&runner, core, &[&first, &second], &input, Epilogue::Store, true, &mut random).await?;
        }
        let heads = Heads { head_dim: 20, n_q: 5, n_kv: 2, first: 1, cols, n_tokens: 1, pos: 7 };
        qkv(&runner, core, &dtypes, &heads, &mut random).await?;
    }
    Ok(())
}

/// Ways to share rows among the threads of a workgroup, at most 256 of them, and with the subgroups that there are.
async fn every_workgroup(name: String, dtype: Dtype, numbers: Numbers) -> Outcome {
    // With subgroups where there are any: the plain device's are in the other cases.
    let runner = Runner::open(false).await?;
    let offer = runner.offer();
    if numbers == Numbers::I8 && !offer.packed_dot {
        return crate::left_out("this adapter has no dot4I8Packed");
    }
    let mut random = Random::new(&name);
    let widths = widths(dtype);
    for shape in [Shape::new(7, widths[3], 2, 9, 1), Shape::new(172, widths[4], 0, 1, 0)] {
        let weights = Weights::new(&runner, dtype, shape.n_rows, shape.cols, &mut random)?;
        let input = Input::new(&runner, shape, &mut random);
        let shapes = match numbers {
            // What stages x knows lanes, groups and tokens, and no rows.
            Numbers::I8 => vec![(1, 64, 1, 4), (8, 4, 4, 1), (32, 8, 1, 1)],
            _ => vec![(1, 1, 1, 1), (1, 8, 2, 1), (4, 8, 2, 1), (8, 4, 4, 4), (32, 8, 1, 1), (64, 1, 1, 4)],
        };
        for (lanes, groups, pairs, tokens) in shapes {
            let mut ways = vec![1];
            if offer.subgroup > 1 && lanes > 1 {
                ways.push(offer.subgroup.min(lanes));
            }
            for joined in ways {
                let core = Core::MatVec(MatVecShape { lanes, groups, pairs, tokens, joined, numbers });
                plain(&runner, core, &[&weights], &input, Epilogue::Store, true, &mut random).await?;
            }
        }
    }
    Ok(())
}

/// x and norm on either side.
struct Input {
    shape: Shape,
    /// Elements from one token of x to the next: whole chunks.
    stride: usize,
    /// `[n_tokens, stride]`
    x: Vec<f32>,
    norm: Vec<f32>,
    eps: f32,
    /// `[first_token + n_tokens, stride]`; before the first token nobody may read.
    x_buffer: wgpu::Buffer,
    norm_buffer: wgpu::Buffer,
}

impl Input {
    fn new(runner: &Runner, shape: Shape, random: &mut Random) -> Self {
        let stride = shape.cols.next_multiple_of(32);
        let mut padded = |n: usize, largest: f32| {
            let mut rows = Vec::new();
            for _ in 0..n {
                rows.extend(random.floats(shape.cols, largest));
                rows.resize(rows.len().next_multiple_of(stride), 0.0);
            }
            rows
        };
        let x = padded(shape.n_tokens, 1.0);
        let norm = padded(1, 2.0);
        Self::of(runner, shape, x, norm)
    }

    fn of(runner: &Runner, shape: Shape, x: Vec<f32>, norm: Vec<f32>) -> Self {
        let stride = shape.cols.next_multiple_of(32);
        let mut words = vec![POISON; shape.first_token * stride];
        words.extend(bytemuck::cast_slice::<f32, u32>(&x));
        let (x_buffer, norm_buffer) = (runner.storage("x", &words), runner.floats("norm", &norm));
        // The mean of x² is about 1/3: the first shows, the second is what models have.
        let eps = if shape.n_rows % 2 == 1 { 0.4 } else { 1e-8 };
        Self { shape, stride, x, norm, eps, x_buffer, norm_buffer }
    }

    /// The product with `weights` that each token comes to.
    fn expected(&self, weights: &[&Weights], has_norm: bool, core: Core) -> Vec<Vec<Bounded>> {
        let norm = has_norm.then_some((&self.norm[..], self.eps));
        let product = |x| weights.iter().flat_map(|weights| weights.matrix.product(x, norm, core)).collect();
        self.x.chunks_exact(self.stride).map(product).collect()
    }
}

/// `Params` of `shared/product.wgsl`, in its order.
struct Params {
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
    max_seq: u32,
    n_first: u32,
}

impl Params {
    fn new(weights: &[&Weights], input: &Input, n_pairs: usize, y_stride: usize) -> Self {
        Self {
            n_chunks: weights[0].n_chunks,
            n_rows: weights.iter().map(|weights| weights.matrix.n_rows as u32).sum(),
            n_pairs: n_pairs as u32,
            first_row: input.shape.first_row as u32,
            x_stride: input.stride as u32 / 4,
            y_stride: y_stride as u32,
            cols: input.shape.cols as u32,
            eps: input.eps,
            q_rows: 0,
            k_rows: 0,
            head_dim: 0,
            max_seq: 0,
            n_first: weights[0].matrix.n_rows as u32,
        }
    }

    fn words(&self, epilogue: Epilogue, has_norm: bool, norm_at: usize) -> [u32; 16] {
        [
            self.n_chunks,
            self.n_rows,
            self.n_pairs,
            self.first_row,
            self.x_stride,
            self.y_stride,
            self.cols,
            self.eps.to_bits(),
            self.q_rows,
            self.k_rows,
            self.head_dim,
            self.max_seq,
            epilogue as u32,
            has_norm.into(),
            norm_at as u32,
            self.n_first,
        ]
    }
}

/// Dispatches a product; returns what it is called in messages.
fn dispatch(
    runner: &Runner,
    (core, epilogue, has_norm): (Core, Epilogue, bool),
    weights: &[&Weights],
    input: &Input,
    params: &Params,
    (pos, angles): (usize, &[f32]),
    [y, kv_cache]: [&wgpu::Buffer; 2],
) -> String {
    let Shape { n_rows: _, cols, first_row, n_tokens, first_token } = input.shape;
    let kernel = match weights {
        [first, second] => Kernel::product_of_two(core, [first.dtype, second.dtype], epilogue, has_norm),
        _ => Kernel::product(core, weights[0].dtype, epilogue, has_norm),
    };
    // The angles, nothing, and the norm: without one nobody may read it.
    let mut tables: Vec<u32> = bytemuck::cast_slice(angles).to_vec();
    tables.resize((tables.len() + 4).next_multiple_of(4), POISON);
    let norm_at = tables.len() / 4;
    if has_norm {
        tables.extend(bytemuck::cast_slice::<f32, u32>(&input.norm));
    }
    let tables = runner.storage("tables", &tables);
    // pos, n_tokens, first_token, slice_len
    let step = runner.uniform("step", &[pos as u32, n_tokens as u32, first_token as u32, 1]);
    let params_buffer = runner.uniform("params", &params.words(epilogue, has_norm, norm_at));
    // What prepares x has the norm by itself, and without one nobody may read it there either.
    let no_norm = runner.poisoned("no norm", 4);
    let norm = if has_norm { &input.norm_buffer } else { &no_norm };
    let rounded = core.preparation(has_norm).map(|(kernel, block)| {
        let n_blocks = n_tokens.div_ceil(block as usize);
        let n_tokens = n_blocks * block as usize;
        let n_cols = 32 * params.n_chunks as usize;
        // Two bytes a number; a scale for every sixteen, or less.
        let [words, scales] =
            [n_tokens * n_cols / 2, n_tokens * n_cols / 16].map(|len| runner.poisoned("rounded", len));
        let round = runner.uniform("params", &[params.n_chunks, params.x_stride, params.cols, params.eps.to_bits()]);
        let buffers = [&step, &round, &input.x_buffer, norm, &words, &scales];
        runner.run(&kernel, &buffers, [1, n_blocks as u32, 1]);
        [words, scales]
    });
    let (x, x_scales) = rounded.as_ref().map_or((&input.x_buffer, None), |[words, scales]| (words, Some(scales)));
    let mut buffers = vec![&step, &params_buffer, x, &tables, &weights[0].quants, &weights[0].aux, y];
    buffers.extend(x_scales);
    buffers.extend((core.has_all_epilogues() || epilogue == Epilogue::Qkv).then_some(kv_cache));
    buffers.extend(weights[1..].iter().flat_map(|second| [&second.quants, &second.aux]));
    let step_values = Step { n_tokens: n_tokens as u32, ..Step::default() };
    let grid = core.grid(params.n_pairs).map(|extent| extent.resolve(&step_values));
    runner.run(&kernel, &buffers, grid);
    let n_rows = params.n_rows;
    let (kernel, role) = (kernel.label, epilogue.word());
    format!("{kernel} {role}, {n_rows} rows of {cols} from row {first_row} on, {n_tokens} tokens after {first_token}")
}

/// Store, Add and Gate.
async fn plain(
    runner: &Runner,
    core: Core,
    weights: &[&Weights],
    input: &Input,
    epilogue: Epilogue,
    has_norm: bool,
    random: &mut Random,
) -> Outcome {
    let Shape { n_rows, first_row, n_tokens, .. } = input.shape;
    let y_stride = first_row + n_rows + 3;
    // What y holds before: nothing to store to, or numbers to add to; a gate may be far from 0.
    let before: Vec<f32> = match epilogue {
        Epilogue::Store => vec![f32::from_bits(POISON); n_tokens * y_stride],
        Epilogue::Gate => (0..n_tokens * y_stride).map(|i| random.float([8.0, 0.1, 200.0][i % 3])).collect(),
        _ => random.floats(n_tokens * y_stride, 8.0),
    };
    let y = runner.floats("y", &before);
    let params = Params::new(weights, input, n_rows.div_ceil(2), y_stride);
    let no_cache = runner.poisoned("no cache", 4);
    let what = dispatch(runner, (core, epilogue, has_norm), weights, input, &params, (9, &[]), [&y, &no_cache]);

    let mut wanted: Vec<Want> = before.iter().map(|y| Want::Kept(y.to_bits())).collect();
    for (token, products) in input.expected(weights, has_norm, core).into_iter().enumerate() {
        for (row, product) in products.into_iter().enumerate() {
            let at = token * y_stride + first_row + row;
            wanted[at] = Want::Float(match epilogue {
                Epilogue::Add => store::add(before[at], product),
                Epilogue::Gate => store::gate(before[at], product),
                _ => product,
            });
        }
    }
    check(&what, &runner.read(&y).await?, &wanted, |at| format!("y[{}, {}]", at / y_stride, at % y_stride))
}

/// The rows of `weights` are those of the gate, then as many of up.
async fn gate_up(runner: &Runner, core: Core, weights: &[&Weights], input: &Input) -> Outcome {
    let Shape { n_rows, first_row, n_tokens, .. } = input.shape;
    let y_stride = first_row + n_rows + 3;
    let y = runner.poisoned("y", n_tokens * y_stride);
    let params = Params::new(weights, input, n_rows, y_stride);
    let no_cache = runner.poisoned("no cache", 4);
    let what = dispatch(runner, (core, Epilogue::GateUp, true), weights, input, &params, (9, &[]), [&y, &no_cache]);

    let mut wanted = untouched(n_tokens * y_stride);
    for (token, products) in input.expected(weights, true, core).into_iter().enumerate() {
        let (gate, up) = products.split_at(n_rows);
        for (row, (gate, up)) in gate.iter().zip(up).enumerate() {
            wanted[token * y_stride + first_row + row] = Want::Float(store::gate_up(*gate, *up));
        }
    }
    check(&what, &runner.read(&y).await?, &wanted, |at| format!("y[{}, {}]", at / y_stride, at % y_stride))
}

/// A piece of the fused QKV matrix, from one of its heads to its end.
struct Heads {
    head_dim: usize,
    n_q: usize,
    n_kv: usize,
    first: usize,
    cols: usize,
    n_tokens: usize,
    pos: usize,
}

/// With two types, those of the queries and of the rest.
async fn qkv(runner: &Runner, core: Core, dtypes: &[Dtype], heads: &Heads, random: &mut Random) -> Outcome {
    const THETA: f64 = 20_000.0;
    let Heads { head_dim, n_q: n_heads, n_kv: n_kv_heads, first: first_head, cols, n_tokens, pos } = *heads;
    let n_rows = (n_heads + 2 * n_kv_heads - first_head) * head_dim;
    let shape = Shape::new(n_rows, cols, first_head * head_dim, n_tokens, 1);
    let n_first = if dtypes.len() > 1 { (n_heads - first_head) * head_dim } else { n_rows };
    let mut weights = Vec::new();
    for (dtype, n_rows) in dtypes.iter().zip([n_first, n_rows - n_first]) {
        weights.push(Weights::new(runner, *dtype, n_rows, cols, random)?);
    }
    let weights = &weights.iter().collect::<Vec<_>>()[..];
    let mut input = Input::new(runner, shape, random);
    // Keys and values must stay below 65504, where f16 ends, also when rotated and with the largest weights.
    let products = input.expected(weights, true, core).into_iter().flatten();
    let largest = products.fold(0.0, |largest: f64, product| largest.max(product.value.abs()));
    for g in &mut input.norm {
        *g *= (30_000.0 / largest).min(1.0) as f32;
    }
    input.norm_buffer = runner.floats("norm", &input.norm);

    let max_seq = pos + n_tokens + 3;
    let n_angles = head_dim / 2;
    let angle = |i: usize| (i / n_angles) as f64 * THETA.powf(-2.0 * (i % n_angles) as f64 / head_dim as f64);
    let table: Vec<f32> =
        (0..max_seq * n_angles).map(angle).flat_map(|angle| [angle.cos() as f32, angle.sin() as f32]).collect();
    // A head's f16 pairs in whole 16 bytes.
    let n_words = head_dim.next_multiple_of(8) / 2;
    let cache_len = 2 * n_kv_heads * max_seq * n_words;
    let q_stride = (n_heads * head_dim).next_multiple_of(32);
    let q = runner.poisoned("q", n_tokens * q_stride);
    let kv = runner.poisoned("kv_cache", cache_len);
    let params = Params {
        q_rows: (n_heads * head_dim) as u32,
        k_rows: (n_kv_heads * head_dim) as u32,
        head_dim: head_dim as u32,
        max_seq: max_seq as u32,
        ..Params::new(weights, &input, n_rows / 2, q_stride)
    };
    let what = dispatch(runner, (core, Epilogue::Qkv, true), weights, &input, &params, (pos, &table), [&q, &kv]);
    let what = format!("{what}, heads of {head_dim} at position {pos}");

    let mut wanted_q = untouched(n_tokens * q_stride);
    let mut wanted_kv = untouched(cache_len);
    for (token, products) in input.expected(weights, true, core).into_iter().enumerate() {
        let pos = pos + token;
        for (i, head_rows) in products.chunks_exact(head_dim).enumerate() {
            let head = first_head + i;
            for (j, pair) in head_rows.chunks_exact(2).enumerate() {
                let pair = [pair[0], pair[1]];
                let rotated = store::rope(pair, pos, j, head_dim, THETA);
                if head < n_heads {
                    let at = token * q_stride + head * head_dim + 2 * j;
                    wanted_q[at] = Want::Float(rotated[0]);
                    wanted_q[at + 1] = Want::Float(rotated[1]);
                } else {
                    let at = ((head - n_heads) * max_seq + pos) * n_words + j;
                    let kept = if head < n_heads + n_kv_heads { rotated } else { pair };
                    wanted_kv[at] = Want::Halves(kept.map(store::f16));
                }
            }
        }
    }
    check(&what, &runner.read(&q).await?, &wanted_q, |at| format!("q[{}, {}]", at / q_stride, at % q_stride))?;
    check(&what, &runner.read(&kv).await?, &wanted_kv, |at| {
        let (row, word) = (at / n_words, at % n_words);
        format!("word {word} of kv_cache[{}, {}]", row / max_seq, row % max_seq)
    })
}
