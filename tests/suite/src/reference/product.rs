//! Twin of the cores of products, and of what prepares x for them: rows of W times x, with or without `RMSNorm`, and with
//! x rounded or not.

use helium_webgpu::format::{Dtype, blocks};
use helium_webgpu::gpu::kernel::{Core, Numbers};

use super::{Bounded, ROUNDING};

/// Columns whose weights share a scale and an offset on the device, at most.
const CHUNK: usize = 32;

/// Rows of weights in f64.
pub(crate) struct Matrix {
    pub(crate) n_rows: usize,
    pub(crate) cols: usize,
    /// `[n_rows, cols]`
    weights: Vec<f64>,
    /// `[n_rows, cols]`: the largest magnitude in the weight's chunk. A kernel computes `scale·q + offset`, or
    /// sums the two parts apart; either may be as large as this although the weight itself is near 0.
    magnitudes: Vec<f64>,
}

impl Matrix {
    /// Decodes rows of blocks as they are in a file.
    pub(crate) fn decode(dtype: Dtype, bytes: &[u8], n_rows: usize, cols: usize) -> Result<Self, String> {
        let mut weights = Vec::with_capacity(n_rows * cols);
        let mut row = vec![0.0; cols];
        for bytes in bytes.chunks_exact(bytes.len() / n_rows) {
            blocks::decode_row(dtype, bytes, &mut row).map_err(|error| error.to_string())?;
            weights.extend(row.iter().map(|weight| f64::from(*weight)));
        }
        let largest = |chunk: &[f64]| chunk.iter().fold(0.0, |largest: f64, weight| largest.max(weight.abs()));
        let magnitudes = weights
            .chunks_exact(cols)
            .flat_map(|row| row.chunks(CHUNK))
            .flat_map(|chunk| std::iter::repeat_n(largest(chunk), chunk.len()))
            .collect();
        Ok(Self { n_rows, cols, weights, magnitudes })
    }

    /// A weight as a kernel may compute it: exact for floats, else after the product with a scale that is itself
    /// a product, and the sum with an offset.
    pub(crate) fn weight(&self, row: usize, col: usize, dtype: Dtype) -> Bounded {
        let at = row * self.cols + col;
        let n_roundings = if dtype.block_len() == 1 { 0.0 } else { 4.0 };
        Bounded { value: self.weights[at], error: n_roundings * ROUNDING * self.magnitudes[at] }
    }

    /// `W·x` for one token, as `core` rounds x; with a norm `W·(g ⊙ x / sqrt(mean(x²) + eps))`.
    pub(crate) fn product(&self, x: &[f32], norm: Option<(&[f32], f32)>, core: Core) -> Vec<Bounded> {
        let mut scaled: Vec<f64> = x[..self.cols].iter().map(|x| f64::from(*x)).collect();
        if let Some((norm, eps)) = norm {
            let mean = scaled.iter().map(|x| x * x).sum::<f64>() / self.cols as f64;
            let rms = (mean + f64::from(eps)).sqrt();
            for (x, g) in scaled.iter_mut().zip(norm) {
                *x *= f64::from(*g) / rms;
            }
        }
        let unsure = match (core, core.numbers()) {
            (Core::RowsI8, _) => round_to_bytes(&mut scaled, CHUNK),
            (_, Numbers::I8) => round_to_bytes(&mut scaled, CHUNK / 2),
            _ => vec![0.0; self.cols],
        };
        // In f16 an x, a product and two sums of four (or a weight, and no sum) round by 2^-11 each; a quant is up to
        // twice as large as the weight that it stands for; and of n errors in all directions the sum is seldom beyond
        // three times sqrt(n) of one.
        let halves = 4.0 * 2.0_f64.powi(-11) * (2.0 * 3.0 / (self.cols as f64).sqrt()).min(1.0);
        let halves = if core.numbers() == Numbers::F16 { halves } else { 0.0 };
        // A sum of n numbers in any order errs by at most n roundings of the sum of magnitudes, and as roundings
        // go up and down, in practice by half of sqrt(n) of them. Four more are for what each number went through:
        // scale, offset, norm, and the reciprocal root, which WGSL allows two units in the last place.
        let n_roundings = 4.0 + 0.5 * (self.cols as f64).sqrt();
        let rows = self.weights.chunks_exact(self.cols).zip(self.magnitudes.chunks_exact(self.cols));
        rows.map(|(weights, magnitudes)| {
            let value = weights.iter().zip(&scaled).map(|(w, x)| w * x).sum();
            let magnitude: f64 = magnitudes.iter().zip(&scaled).map(|(m, x)| m * x.abs()).sum();
            let unsure: f64 = magnitudes.iter().zip(&unsure).map(|(m, x)| m * x).sum();
            Bounded { value, error: (n_roundings * ROUNDING + halves) * magnitude + unsure }
        })
        .collect()
    }
}

/// Rounds `n` numbers after another to 127ths of their largest. Returns how far off each may be because it lies
/// between two of them, and f32 may decide otherwise than f64.
fn round_to_bytes(x: &mut [f64], n: usize) -> Vec<f64> {
    let mut unsure = Vec::with_capacity(x.len());
    for part in x.chunks_mut(n) {
        let unit = part.iter().fold(0.0, |largest: f64, x| largest.max(x.abs())) / 127.0;
        for x in part {
            let exact = if unit > 0.0 { *x / unit } else { 0.0 };
            let is_tie = (exact - exact.floor() - 0.5).abs() < 1e-3;
            unsure.push(if is_tie { unit } else { 0.0 });
            *x = exact.round() * unit;
        }
    }
    unsure
}
