// What every rounding of x before a product shares: the numbers of the step and of the product. With NORM, RMSNorm is applied.

override NORM: bool = false;

struct Step {
  pos: u32,
  n_tokens: u32,
  first_token: u32,
  slice_len: u32,
}

struct Params {
  n_chunks: u32,  // 32-column chunks in a row, padding included
  x_stride: u32,  // vec4 from one token of x to the next
  cols: u32,      // columns without padding
  eps: f32,
}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
