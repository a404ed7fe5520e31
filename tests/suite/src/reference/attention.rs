//! Twin of `attention.wgsl`: one query over the cached keys and values that it may see.

use super::{Bounded, ROUNDING};

/// `softmax(q·Kᵀ / sqrt(head_dim))·V` for one query: `keys` and `values` are `[n_seen, head_dim]`.
pub(crate) fn attention(q: &[f32], keys: &[f64], values: &[f64]) -> Vec<Bounded> {
    let head_dim = q.len();
    let scale = 1.0 / (head_dim as f64).sqrt();
    let dot = |k: &[f64]| q.iter().zip(k).map(|(q, k)| f64::from(*q) * k).sum::<f64>() * scale;
    let magnitude = |k: &[f64]| q.iter().zip(k).map(|(q, k)| (f64::from(*q) * k).abs()).sum::<f64>() * scale;
    let scores: Vec<f64> = keys.chunks_exact(head_dim).map(dot).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();

    // A score errs as a sum of head_dim products does, and so does, relatively, e^score; then WGSL allows
    // exp(z) 3 + 2·|z| units in the last place, where weights below e^-20 add nothing.
    // The sums over positions err as sums do, and there are two, numerator and denominator.
    let worst = keys.chunks_exact(head_dim).map(magnitude).fold(0.0, f64::max);
    let n_roundings = (3.0 + 0.5 * (head_dim as f64).sqrt()) * worst + 43.0 + (scores.len() as f64).sqrt();
    (0..head_dim)
        .map(|dim| {
            let mut value = 0.0;
            let mut magnitude = 0.0;
            for (weight, v) in weights.iter().zip(values.chunks_exact(head_dim)) {
                value += weight / sum * v[dim];
                magnitude += weight / sum * v[dim].abs();
            }
            Bounded { value, error: n_roundings * ROUNDING * (magnitude + value.abs()) }
        })
        .collect()
}
