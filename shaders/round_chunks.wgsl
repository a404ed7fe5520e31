// x rounded to eight bits for matmul_i8.wgsl, with RMSNorm before: of every chunk its 32 bytes, and of either half the
// scale and the sum.
//
// Grid: y, the tokens.

@group(0) @binding(2) var<storage, read> x: array<vec4f>;                  // [n_tokens, x_stride]
@group(0) @binding(3) var<storage, read> norm: array<vec4f>;               // [x_stride], unread without NORM
@group(0) @binding(4) var<storage, read_write> rounded: array<vec4<u32>>;  // [n_tokens, n_chunks, 3]

const THREADS = 64u;

var<workgroup> squares: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let token = group.y;
  let x_at = (step.first_token + token) * params.x_stride;

  var inverse_rms = 1.0;
  if NORM {
    var sum = 0.0;
    for (var i = thread; i < 8u * params.n_chunks; i += THREADS) {
      let v = x[x_at + i];
      sum += dot(v, v);
    }
    squares[thread] = sum;
    for (var n = THREADS / 2u; n > 0u; n /= 2u) {
      workgroupBarrier();
      if thread < n {
        squares[thread] += squares[thread + n];
      }
    }
    workgroupBarrier();
    inverse_rms = inverseSqrt(squares[0] / f32(params.cols) + params.eps);
  }

  for (var chunk = thread; chunk < params.n_chunks; chunk += THREADS) {
    let a = rounded_half(x_at, 8u * chunk);
    let b = rounded_half(x_at, 8u * chunk + 4u);
    let at = (token * params.n_chunks + chunk) * 3u;
    rounded[at] = a.q;
    rounded[at + 1u] = b.q;
    rounded[at + 2u] = bitcast<vec4<u32>>(vec4f(a.scale, b.scale, a.sum, b.sum) * inverse_rms);
  }
}

fn rounded_half(x_at: u32, i: u32) -> Rounded16 {
  return round16(
    weighed(x[x_at + i], i), weighed(x[x_at + i + 1u], i + 1u),
    weighed(x[x_at + i + 2u], i + 2u), weighed(x[x_at + i + 3u], i + 3u));
}

fn weighed(v: vec4f, i: u32) -> vec4f {
  if NORM {
    return v * norm[i];
  }
  return v;
}
