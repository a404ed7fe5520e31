//! The CPU twins of the shaders, in f64: written from the equations, sharing no constant with the kernels.
//!
//! | shader | twin |
//! |---|---|
//! | every core of products with what prepares x, `shared/product`, `shared/<dtype>` | [`product`] (weights through `format::blocks`) |
//! | `shared/store` | [`store`] |
//! | `embed` | [`embed`] |
//! | `attention` | [`attention`] |
//! | `attention_combine` | [`attention_combine`] |
//!
//! A twin gives every element as a [`Bounded`]: its value, and how far arithmetic in f32 may be from it.

pub(crate) mod attention;
pub(crate) mod attention_combine;
pub(crate) mod embed;
pub(crate) mod product;
pub(crate) mod store;

/// The distance from 1 to the next f32: the relative error of one rounding, which WGSL lets go up or down.
pub(crate) const ROUNDING: f64 = 1.0 / (1 << 23) as f64;

/// A value, and how far from it a result may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounded {
    pub(crate) value: f64,
    pub(crate) error: f64,
}

impl Bounded {
    /// A value that must be met exactly.
    pub(crate) fn exact(value: f64) -> Self {
        Self { value, error: 0.0 }
    }

    /// This value after `n` more roundings.
    pub(crate) fn rounded(self, n: f64) -> Self {
        Self { error: self.error + n * ROUNDING * self.value.abs(), ..self }
    }
}

impl std::ops::Add for Bounded {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { value: self.value + other.value, error: self.error + other.error }.rounded(1.0)
    }
}

impl std::ops::Mul for Bounded {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let error = self.error * other.value.abs() + other.error * self.value.abs() + self.error * other.error;
        Self { value: self.value * other.value, error }.rounded(1.0)
    }
}
