//! The suite's exports for browsers.

#![allow(unreachable_pub, reason = "JavaScript reaches them")]

use helium_webgpu::gpu::WebOffer;
use wasm_bindgen::prelude::*;

/// The names of all cases.
#[wasm_bindgen]
pub fn list() -> Vec<String> {
    console_error_panic_hook::set_once();
    crate::cases().into_iter().map(|case| case.name).collect()
}

/// Says what the browser has that wgpu cannot see, before the first case.
#[wasm_bindgen]
pub fn offer(subgroups: bool, packed_dot: bool) {
    crate::WEB.set(WebOffer { subgroups, packed_dot });
}

/// Runs the case called `name`; throws why it failed, and returns why it was left out on this adapter, if it was.
#[wasm_bindgen]
pub async fn run(name: String) -> Result<Option<String>, JsError> {
    let case = crate::cases().into_iter().find(|case| case.name == name);
    let case = case.ok_or_else(|| JsError::new(&format!("there is no case {name:?}")))?;
    (case.run)().await.map_err(|why| JsError::new(&why))?;
    Ok(crate::take_left_out())
}
