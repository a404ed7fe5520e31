// Joins the slices of attention: out = Σ e^(m_s − m)·o_s / Σ e^(m_s − m)·l_s with m = max m_s, where a
// slice left its unscaled sum o_s, its maximum m_s and its sum of probabilities l_s.
//
// Grid: x, the query heads; y, the tokens. A thread takes every 64th element of the head.

struct Params {
  n_heads: u32,
  head_dim: u32,
  stride: u32,  // elements from one token of the output to the next
}

struct Step {
  pos: u32,
  n_tokens: u32,
  first_token: u32,
  slice_len: u32,
}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> slices: array<f32>;       // [n_tokens, n_heads, n_slices, head_dim + 2]
@group(0) @binding(3) var<storage, read_write> out: array<f32>;    // [n_tokens, stride]

const MOST = 32u;  // slices

var<workgroup> maxima: array<f32, MOST>;
var<workgroup> sums: array<f32, MOST>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let n_slices = (step.pos + step.n_tokens + step.slice_len - 1u) / step.slice_len;
  let slice_stride = params.head_dim + 2u;
  let base = (group.y * params.n_heads + group.x) * n_slices * slice_stride;

  if thread < n_slices {
    let at = base + thread * slice_stride + params.head_dim;
    maxima[thread] = slices[at];
    sums[thread] = slices[at + 1u];
  }
  workgroupBarrier();
  var largest = maxima[0];
  for (var s = 1u; s < n_slices; s++) {
    largest = max(largest, maxima[s]);
  }
  var sum = 0.0;
  for (var s = 0u; s < n_slices; s++) {
    sum += exp(maxima[s] - largest) * sums[s];
  }
  for (var dim = thread; dim < params.head_dim; dim += 64u) {
    var value = 0.0;
    for (var s = 0u; s < n_slices; s++) {
      value += exp(maxima[s] - largest) * slices[base + s * slice_stride + dim];
    }
    out[group.y * params.stride + group.x * params.head_dim + dim] = value / sum;
  }
}
