//! Twin of `attention_combine.wgsl`: the join of slices.

use super::{Bounded, ROUNDING};

/// What attention left of a slice of the cache: `Σ p·v` unscaled, and of the scores the maximum `m` and the
/// sum of `p = e^(score − m)`.
pub(crate) struct Slice {
    pub(crate) values: Vec<f32>,
    pub(crate) largest: f32,
    pub(crate) sum: f32,
}

/// `Σ e^(m_s − m)·o_s / Σ e^(m_s − m)·l_s` with `m = max m_s`.
pub(crate) fn attention_combine(slices: &[Slice]) -> Vec<Bounded> {
    let largest = slices.iter().map(|slice| slice.largest).fold(f32::NEG_INFINITY, f32::max);
    let decays: Vec<f64> = slices.iter().map(|slice| (f64::from(slice.largest) - f64::from(largest)).exp()).collect();
    let sum: f64 = slices.iter().zip(&decays).map(|(slice, decay)| decay * f64::from(slice.sum)).sum();
    (0..slices[0].values.len())
        .map(|dim| {
            let terms = slices.iter().zip(&decays).map(|(slice, decay)| decay * f64::from(slice.values[dim]) / sum);
            let value = terms.clone().sum();
            let magnitude: f64 = terms.map(f64::abs).sum();
            // As in attention: exp of what weighs at least e^-20, two sums, a quotient.
            Bounded { value, error: (96.0 + slices.len() as f64) * ROUNDING * magnitude }
        })
        .collect()
}
