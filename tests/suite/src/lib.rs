//! The engine's cases. They are the same natively and in browsers, so everything they need is compiled in.

mod goldens;
mod gpu;
mod kernels;
mod loader;
mod reference;
mod session;
#[cfg(target_arch = "wasm32")]
mod wasm;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use helium_webgpu::gpu::{FeatureChoice, Gpu, GpuOptions, LimitChoice, WebOffer};

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
    let mut cases = kernels::cases();
    cases.extend(loader::cases());
    cases.extend(session::cases());
    cases.extend(goldens::cases());
    cases
}

thread_local! {
    static OPEN: RefCell<[Option<Rc<Gpu>>; 2]> = const { RefCell::new([None, None]) };
    static LEFT_OUT: Cell<Option<String>> = const { Cell::new(None) };
    static WEB: Cell<WebOffer> = Cell::new(WebOffer::default());
}

/// The device: at WebGPU's defaults and without optional features, or as the adapter offers. Cases share the two, and
/// with them their pipelines: compiling is most of a case.
async fn open(is_plain: bool) -> Result<Rc<Gpu>, String> {
    let options = if is_plain {
        GpuOptions { limits: LimitChoice::Default, features: FeatureChoice::None, ..GpuOptions::default() }
    } else {
        GpuOptions { web: WEB.get(), ..GpuOptions::default() }
    };
    if let Some(gpu) = OPEN.with_borrow(|open| open[usize::from(is_plain)].clone()) {
        return Ok(gpu);
    }
    let gpu = Rc::new(Gpu::open(&options).await.map_err(text)?);
    OPEN.with_borrow_mut(|open| open[usize::from(is_plain)] = Some(Rc::clone(&gpu)));
    Ok(gpu)
}

/// What a case comes to on an adapter that has not what it is about: it passes, and whoever runs it says so.
#[allow(clippy::unnecessary_wraps, reason = "it ends a case")]
fn left_out(why: &str) -> Outcome {
    LEFT_OUT.set(Some(why.to_owned()));
    Ok(())
}

/// Why the last case was left out, if it was.
#[must_use]
pub fn take_left_out() -> Option<String> {
    LEFT_OUT.take()
}

#[allow(clippy::needless_pass_by_value, reason = "a function for `map_err`")]
fn text(error: helium_webgpu::Error) -> String {
    format!("{}: {error}", error.code())
}

/// Checks that `result` is an error of the kind `code`, and that its message is one line that mentions a word.
fn refused<T>(what: &str, result: helium_webgpu::Result<T>, code: &str, mentions: &str) -> Outcome {
    let Err(error) = result else {
        return Err(format!("{what}: succeeded, expected the error {code} about {mentions:?}"));
    };
    let message = error.to_string();
    if error.code() != code || !message.contains(mentions) || message.contains('\n') || message.is_empty() {
        return Err(format!("{what}: {}, expected the error {code} about {mentions:?} in one line", text(error)));
    }
    Ok(())
}
