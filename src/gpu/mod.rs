//! All that names wgpu: the device, weight matrices and buffers on it, the kernels, and recorded plans of
//! dispatches. It knows shapes and types, but no model.

#[cfg(not(target_arch = "wasm32"))]
mod ahead;
mod ceilings;
pub mod device;
pub mod kernel;
pub mod part;
pub mod plan;
pub mod tensor;
mod timing;
pub mod uniforms;

/// Multiples of this many bytes in a buffer are where a binding may begin on every device.
pub(crate) const BINDING_ALIGNMENT: u64 = 256;

pub use device::{AdapterAbout, FeatureChoice, Gpu, GpuOptions, LimitChoice, Offer, WebOffer};
