//! Helium-1 on WebGPU.
pub mod error;
pub use error::{Error, Result};
