//! All that names wgpu: the device, weight matrices and buffers on it, the kernels, and recorded plans of
//! dispatches. It knows shapes and types, but no model.

mod ceilings;
pub mod device;
pub mod kernel;
pub mod plan;
pub mod tensor;
mod timing;

pub use device::{AdapterAbout, FeatureChoice, Gpu, GpuOptions, LimitChoice, Offer, WebOffer};
