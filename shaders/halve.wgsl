// x as f16 for cooperative.wgsl, with RMSNorm before: x = scale · share, where scale is the largest |x| of the token, so
// that no share overflows. What is 2^-14 of it or less loses digits; among thousands of columns that does not show.
//
// Grid: y, the tokens.

@group(0) @binding(2) var<storage, read> x: array<vec4f>;                 // [n_tokens, x_stride]
@group(0) @binding(3) var<storage, read> norm: array<vec4f>;              // [x_stride], unread without NORM
@group(0) @binding(4) var<storage, read_write> halves: array<vec2<u32>>;  // [n_tokens, 8 n_chunks], two f16 a word
@group(0) @binding(5) var<storage, read_write> scales: array<f32>;        // [n_tokens]

const THREADS = 256u;

var<workgroup> parts: array<vec2f, THREADS>;  // Σ x² and the largest |x|

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let token = group.y;
  let x_at = (step.first_token + token) * params.x_stride;
  let n_vecs = 8u * params.n_chunks;

  var sum = 0.0;
  var largest = vec4f(0.0);
  for (var i = thread; i < n_vecs; i += THREADS) {
    let v = x[x_at + i];
    sum += dot(v, v);
    largest = max(largest, abs(weighed(v, i)));
  }
  parts[thread] = vec2f(sum, max(max(largest.x, largest.y), max(largest.z, largest.w)));
  for (var n = THREADS / 2u; n > 0u; n /= 2u) {
    workgroupBarrier();
    if thread < n {
      let other = parts[thread + n];
      parts[thread] = vec2f(parts[thread].x + other.x, max(parts[thread].y, other.y));
    }
  }
  workgroupBarrier();
  let all = parts[0];
  let inverse = select(0.0, 1.0 / all.y, all.y > 1e-30);
  for (var i = thread; i < n_vecs; i += THREADS) {
    let v = weighed(x[x_at + i], i) * inverse;
    halves[token * n_vecs + i] = vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw));
  }
  if thread == 0u {
    var scale = all.y;
    if NORM {
      scale *= inverseSqrt(all.x / f32(params.cols) + params.eps);
    }
    scales[token] = scale;
  }
}

fn weighed(v: vec4f, i: u32) -> vec4f {
  if NORM {
    return v * norm[i];
  }
  return v;
}
