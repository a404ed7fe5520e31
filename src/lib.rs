//! Kyutai's Helium-1 on WebGPU: a transformer in hand-written WGSL, natively and in the browser.
//!
//! A [`loader::Loader`] takes the bytes of a model's files and gives a [`model::Model`] on the GPU;
//! [`session::generate`] continues text with it, [`score::score`] says how probable it finds a text. Natively,
//! [`files::ModelFiles`] reads a model from disk.

pub mod bench;
pub mod config;
#[cfg(not(target_arch = "wasm32"))]
pub mod convert;
pub mod error;
#[cfg(not(target_arch = "wasm32"))]
pub mod files;
pub mod format;
pub mod gpu;
pub mod loader;
pub mod model;
#[cfg(not(target_arch = "wasm32"))]
pub mod new_file;
pub mod recipe;
pub mod sampler;
pub mod score;
pub mod session;
pub mod tokenizer;
#[cfg(target_arch = "wasm32")]
mod wasm;

pub use error::{Error, Result};
