//! All that names wgpu: the device, weight matrices and buffers on it, the kernels, and recorded plans of
//! dispatches. It knows shapes and types, but no model.

pub mod device;
pub mod kernel;
pub mod plan;
pub mod tensor;

pub use device::{FeatureChoice, Gpu, GpuOptions, LimitChoice};
