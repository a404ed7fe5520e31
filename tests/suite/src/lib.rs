//! The engine's cases. They are the same natively and in browsers, so everything they need is compiled in.

mod goldens;
#[cfg(target_arch = "wasm32")]
mod wasm;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use helium_webgpu::gpu::{FeatureChoice, Gpu, GpuOptions, LimitChoice};

/// What a case comes to: nothing, or why it failed.
pub type Outcome = Result<(), String>;

/// A named case.
pub struct Case {
    /// Its name, unique.
    pub name: String,
    /// Runs it.
    pub run: Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Outcome>>> + Send>,
}

impl Case {
    fn new<F: Future<Output = Outcome> + 'static>(
        name: impl Into<String>,
        run: impl FnOnce() -> F + Send + 'static,
    ) -> Self {
        Self { name: name.into(), run: Box::new(|| Box::pin(run())) }
    }
}

/// All cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    goldens::cases()
}

/// Opens the device: at WebGPU's defaults and without optional features, or as the adapter offers.
async fn open(is_plain: bool) -> Result<Rc<Gpu>, String> {
    let options = if is_plain {
        GpuOptions { limits: LimitChoice::Default, features: FeatureChoice::None, ..GpuOptions::default() }
    } else {
        GpuOptions::default()
    };
    Ok(Rc::new(Gpu::open(&options).await.map_err(text)?))
}

fn text(error: helium_webgpu::Error) -> String {
    format!("{}: {error}", error.code())
}
