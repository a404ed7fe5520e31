//! `embed` with every dtype.

use helium_webgpu::format::Dtype;
use helium_webgpu::gpu::kernel::{EMBED_CHUNKS, Kernel};

use super::weights::Weights;
use super::{Want, check, untouched};
use crate::gpu::{Random, Runner};
use crate::reference::{Bounded, embed::embed};
use crate::{Case, Outcome};

pub(super) fn cases() -> Vec<Case> {
    Dtype::ALL
        .into_iter()
        .map(|dtype| {
            let name = format!("embed_{}", dtype.name().to_lowercase());
            Case::new(name.clone(), move || every_piece(name, dtype))
        })
        .collect()
}

/// A matrix in three pieces, a dispatch each, and rows that none of them has.
async fn every_piece(name: String, dtype: Dtype) -> Outcome {
    let runner = Runner::open(true).await?;
    let mut random = Random::new(&name);
    let widths: [usize; 3] = match dtype.block_len() {
        1 => [60, 1757, 32],
        32 => [32, 1120, 96],
        _ => [256, 1280, 768],
    };
    for (cols, n_tokens) in widths.into_iter().zip([5, 33, 1]) {
        // First row, rows. No piece has row 0.
        let pieces = [(1, 7), (8, 172), (180, 3)];
        let end = 183;
        let mut ids: Vec<u32> = (0..n_tokens).map(|_| random.below(end)).collect();
        // Neighbours of the pieces' borders, and ids that no piece has.
        for (id, border) in ids.iter_mut().zip([180, 7, 182, 0, end, 8, 1, 179, u32::MAX]) {
            *id = border;
        }
        let ids_buffer = runner.storage("ids", &ids);
        let n_chunks = cols.div_ceil(32);
        let y_stride = n_chunks * 32 + 4;
        let y = runner.poisoned("y", ids.len() * y_stride);
        let mut wanted = untouched(ids.len() * y_stride);
        let kernel = Kernel::embed(dtype);
        for (first_row, n_rows) in pieces {
            let weights = Weights::new(&runner, dtype, n_rows, cols, &mut random)?;
            // n_chunks, n_rows, first_row, y_stride
            let params = [weights.n_chunks, n_rows as u32, first_row, y_stride as u32 / 4];
            let params = runner.uniform("params", &params);
            let grid = [weights.n_chunks.div_ceil(EMBED_CHUNKS), ids.len() as u32, 1];
            runner.run(&kernel, &[&params, &ids_buffer, &weights.quants, &weights.aux, &y], grid);

            for (token, id) in ids.iter().enumerate() {
                let Some(row) = id.checked_sub(first_row).filter(|row| (*row as usize) < n_rows) else { continue };
                let wanted = &mut wanted[token * y_stride..][..n_chunks * 32];
                // Up to whole chunks, rows are zeros.
                wanted.fill(Want::Float(Bounded::exact(0.0)));
                for (want, weight) in wanted.iter_mut().zip(embed(&weights.matrix, dtype, row as usize)) {
                    *want = Want::Float(weight);
                }
            }
            let what = format!("{}, {n_rows} rows of {cols} from row {first_row} on, ids {ids:?}", kernel.label);
            let place = |at: usize| format!("y[{}, {}]", at / y_stride, at % y_stride);
            check(&what, &runner.read(&y).await?, &wanted, place)?;
        }
    }
    Ok(())
}
