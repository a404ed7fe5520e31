//! The suite's exports for browsers.

#![allow(unreachable_pub, reason = "JavaScript reaches them")]

use wasm_bindgen::prelude::*;

/// The names of all cases.
#[wasm_bindgen]
pub fn list() -> Vec<String> {
    console_error_panic_hook::set_once();
    crate::cases().into_iter().map(|case| case.name).collect()
}

/// Runs the case called `name`; throws why it failed.
#[wasm_bindgen]
pub async fn run(name: String) -> Result<(), JsError> {
    let case = crate::cases().into_iter().find(|case| case.name == name);
    let case = case.ok_or_else(|| JsError::new(&format!("there is no case {name:?}")))?;
    (case.run)().await.map_err(|why| JsError::new(&why))
}
