//! Helium-1 on WebGPU.
pub mod config;
pub mod error;
pub mod format;
pub mod gpu;
pub mod loader;
pub mod model;
pub mod sampler;
pub mod score;
pub mod session;
pub mod tokenizer;
pub use error::{Error, Result};
