//! Twins of the products' epilogues: `store.wgsl`.

use super::{Bounded, ROUNDING};

/// `silu(z) = z / (1 + e^−z)`
pub(crate) fn silu(z: Bounded) -> Bounded {
    let value = z.value / (1.0 + (-z.value).exp());
    // The slope of silu is between -0.1 and 1.1. WGSL allows exp(z) 3 + 2·|z| units in the last place, two
    // roundings each, and a quotient 2.5.
    let n_roundings = 3.0 + 2.0 * z.value.abs() + 3.5;
    // Where e^-z overflows, below -88.7, the result is 0 and not 88.7·e^-88.7.
    let underflow = 1e-36;
    Bounded { value, error: 1.1 * z.error + underflow }.rounded(n_roundings)
}

/// `y += W·x`
pub(crate) fn add(y: f32, product: Bounded) -> Bounded {
    Bounded::exact(f64::from(y)) + product
}

/// `y = silu(y) ⊙ W·x`
pub(crate) fn gate(y: f32, product: Bounded) -> Bounded {
    silu(Bounded::exact(f64::from(y))) * product
}

/// `y = silu(Wg·x) ⊙ Wu·x`
pub(crate) fn gate_up(gate: Bounded, up: Bounded) -> Bounded {
    silu(gate) * up
}

/// Rotates elements 2j and 2j + 1 of a head of `head_dim` at a position: `(a, b) → (a·cos − b·sin,
/// b·cos + a·sin)` with the angle `pos · theta^(−2j / head_dim)`.
pub(crate) fn rope([a, b]: [Bounded; 2], pos: usize, j: usize, head_dim: usize, theta: f64) -> [Bounded; 2] {
    let (sin, cos) = (pos as f64 * theta.powf(-2.0 * j as f64 / head_dim as f64)).sin_cos();
    // The kernel reads both from a table of f32.
    let error = (a.error + b.error) + 2.0 * ROUNDING * (a.value.abs() + b.value.abs());
    [Bounded { value: a.value * cos - b.value * sin, error }, Bounded { value: b.value * cos + a.value * sin, error }]
}

/// A value after it went to f16 and back. Adapters may round to the nearest or toward zero, so it may be off by a
/// whole step, 2^-10 of it; the smallest steps are 2^-24.
pub(crate) fn f16(value: Bounded) -> Bounded {
    let step = (value.value.abs() / 1024.0).max(1.0 / f64::from(1 << 24));
    Bounded { value: value.value, error: value.error + step }
}
