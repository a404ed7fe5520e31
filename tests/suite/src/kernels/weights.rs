//! Random rows of every dtype, as they are in a file, and on the device.

use half::{bf16, f16};
use helium_webgpu::format::Dtype;
use helium_webgpu::format::repack::Layout;

use crate::gpu::{Random, Runner};
use crate::reference::product::Matrix;

/// Rows on the device, and what they are.
pub(super) struct Weights {
    pub(super) dtype: Dtype,
    pub(super) matrix: Matrix,
    /// 32-weight chunks in a row.
    pub(super) n_chunks: u32,
    pub(super) quants: wgpu::Buffer,
    /// Floats have no aux plane: a poisoned buffer, which nobody may read.
    pub(super) aux: wgpu::Buffer,
}

impl Weights {
    pub(super) fn new(
        runner: &Runner,
        dtype: Dtype,
        n_rows: usize,
        cols: usize,
        random: &mut Random,
    ) -> Result<Self, String> {
        let bytes: Vec<u8> = (0..n_rows).flat_map(|row| random_row(dtype, cols, row + n_rows, random)).collect();
        Self::of(runner, dtype, &bytes, n_rows, cols)
    }

    /// Rows of blocks as they are in a file.
    pub(super) fn of(runner: &Runner, dtype: Dtype, bytes: &[u8], n_rows: usize, cols: usize) -> Result<Self, String> {
        let matrix = Matrix::decode(dtype, bytes, n_rows, cols)?;
        let layout = Layout::new(dtype, cols);
        let (mut quants, mut aux) = (Vec::new(), Vec::new());
        for row in bytes.chunks_exact(bytes.len() / n_rows) {
            layout.repack_row(row, &mut quants, &mut aux);
        }
        let (quants, aux) = (runner.storage("quants", &quants), runner.storage("aux", &aux));
        Ok(Self { dtype, matrix, n_chunks: cols.div_ceil(32) as u32, quants, aux })
    }
}

/// What the scales of a row are like. A row has one kind, so that the largest do not hide the smallest.
fn random_scale(kind: usize, random: &mut Random) -> f16 {
    let sign = (random.below(2) as u16) << 15;
    match kind % 6 {
        // Subnormal: real Q6_K files have them, about 4e-5; the smallest is 6e-8.
        1 => f16::from_bits(sign | [1, 2, 671, 1023, 1 + random.below(1023) as u16][random.below(5) as usize]),
        // About the smallest normal one.
        3 => f16::from_bits(sign | (0x0400 + random.below(64) as u16)),
        // Large: weights up to 32,512 in Q6_K, which f16 has; no model has larger ones.
        4 => f16::from_f32(random.float(8.0)),
        // None: a block of zeros, or of minimums.
        5 => f16::from_bits(sign),
        _ => f16::from_f32(random.float(0.1)),
    }
}

/// Any bytes are a block, as long as its scales are numbers.
fn random_row(dtype: Dtype, cols: usize, kind: usize, random: &mut Random) -> Vec<u8> {
    // Where in a block its scales are, and its minimums, whose kind is another.
    let (scale_at, min_at): (usize, Option<usize>) = match dtype {
        Dtype::F32 => {
            let largest = [0.1, 1e-6, 1.0, 1e4][kind % 4];
            return (0..cols).flat_map(|_| random.float(largest).to_le_bytes()).collect();
        }
        Dtype::BF16 => {
            let largest = [0.1, 1e-6, 1.0, 1e4][kind % 4];
            return (0..cols).flat_map(|_| bf16::from_f32(random.float(largest)).to_le_bytes()).collect();
        }
        Dtype::F16 => return (0..cols).flat_map(|_| random_scale(kind, random).to_le_bytes()).collect(),
        Dtype::Q4_0 | Dtype::Q5_0 | Dtype::Q8_0 => (0, None),
        Dtype::Q4_1 | Dtype::Q5_1 | Dtype::Q4K | Dtype::Q5K => (0, Some(2)),
        Dtype::Q2K => (80, Some(82)),
        Dtype::Q3K => (108, None),
        Dtype::Q6K => (208, None),
    };
    let mut row = Vec::new();
    for _ in 0..cols / dtype.block_len() {
        let mut block: Vec<u8> = (0..dtype.block_bytes()).map(|_| random.byte()).collect();
        block[scale_at..scale_at + 2].copy_from_slice(&random_scale(kind, random).to_le_bytes());
        if let Some(at) = min_at {
            let min_kind = if kind % 6 == 5 { 1 } else { kind };
            block[at..at + 2].copy_from_slice(&random_scale(min_kind, random).to_le_bytes());
        }
        row.extend(block);
    }
    row
}
