// Joins the slices of attention: out = Σ e^(m_s − m)·o_s / Σ e^(m_s − m)·l_s with m = max m_s, where a
// slice left its unscaled sum o_s, its maximum m_s and its sum of probabilities l_s.
//
// Grid: x, the query heads; y, the tokens. A thread sums two dimensions over every slice in THREADS / LANES.

override THREADS: u32 = 256u;  // a multiple of LANES
override PARTS: u32 = 256u;    // THREADS, or where that is LANES, 1: there are none to join
override MOST: u32 = 64u;      // slices

const LANES = 64u;  // threads side by side along the dimensions

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
@group(0) @binding(2) var<storage, read> slices: array<vec2f>;     // [n_tokens, n_heads, n_slices, head_dim / 2 + 1]
@group(0) @binding(3) var<storage, read_write> out: array<vec2f>;  // [n_tokens, stride / 2]

var<workgroup> ends: array<vec2f, MOST>;      // of every slice the maximum and the sum
var<workgroup> decays: array<f32, MOST>;      // what its numbers are worth
var<workgroup> parts: array<vec2f, PARTS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let n_slices = min((step.pos + step.n_tokens + step.slice_len - 1u) / step.slice_len, MOST);
  let n_words = params.head_dim / 2u;
  let base = (group.y * params.n_heads + group.x) * n_slices * (n_words + 1u);

  if thread < n_slices {
    ends[thread] = slices[base + thread * (n_words + 1u) + n_words];
  }
  workgroupBarrier();
  var largest = ends[0].x;
  for (var s = 1u; s < n_slices; s++) {
    largest = max(largest, ends[s].x);
  }
  if thread < n_slices {
    decays[thread] = exp(ends[thread].x - largest);
  }
  workgroupBarrier();
  var sum = 0.0;
  for (var s = 0u; s < n_slices; s++) {
    sum += decays[s] * ends[s].y;
  }

  let lane = thread % LANES;
  for (var first_word = 0u; first_word < n_words; first_word += LANES) {
    let word = first_word + lane;
    var value = vec2f(0.0);
    if word < n_words {
      for (var s = thread / LANES; s < n_slices; s += THREADS / LANES) {
        value += decays[s] * slices[base + s * (n_words + 1u) + word];
      }
    }
    if THREADS > LANES {
      workgroupBarrier();
      parts[thread] = value;
      workgroupBarrier();
      for (var other = lane + LANES; other < THREADS; other += LANES) {
        value += parts[other];
      }
    }
    if thread < LANES && word < n_words {
      out[(group.y * params.stride + group.x * params.head_dim) / 2u + word] = value / sum;
    }
  }
}
