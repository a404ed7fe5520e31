// x rounded to eight bits for rows_i8.wgsl, with RMSNorm before: x ≈ scale · integer, with scale = max |x| / 127 of a
// chunk. Two tokens make a word: the integer of the second times 2^16, plus that of the first.
//
// Grid: y, eight tokens; past the last, that again. A thread has two of them, and one chunk in eight.

@group(0) @binding(2) var<storage, read> x: array<f32>;              // [n_tokens, 4 x_stride]
@group(0) @binding(3) var<storage, read> norm: array<f32>;           // [4 x_stride], unread without NORM
@group(0) @binding(4) var<storage, read_write> rounded: array<i32>;  // [n_tokens / 8, 32 n_chunks, 4]
@group(0) @binding(5) var<storage, read_write> scales: array<f32>;   // [n_tokens / 8, n_chunks, 2: even, odd; 4]

const THREADS = 32u;

var<workgroup> squares: array<vec2f, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let word = thread % 4u;
  let first_chunk = thread / 4u;
  let token = 8u * group.y + 2u * word;
  let even = (step.first_token + min(token, step.n_tokens - 1u)) * 4u * params.x_stride;
  let odd = (step.first_token + min(token + 1u, step.n_tokens - 1u)) * 4u * params.x_stride;

  var inverse_rms = vec2f(1.0);
  if NORM {
    var sum = vec2f(0.0);
    for (var chunk = first_chunk; chunk < params.n_chunks; chunk += 8u) {
      for (var i = 32u * chunk; i < 32u * chunk + 32u; i++) {
        let v = vec2f(x[even + i], x[odd + i]);
        sum += v * v;
      }
    }
    squares[thread] = sum;
    workgroupBarrier();
    sum = vec2f(0.0);
    for (var i = word; i < THREADS; i += 4u) {
      sum += squares[i];
    }
    inverse_rms = inverseSqrt(sum / f32(params.cols) + params.eps);
  }

  for (var chunk = first_chunk; chunk < params.n_chunks; chunk += 8u) {
    var largest = vec2f(0.0);
    for (var i = 32u * chunk; i < 32u * chunk + 32u; i++) {
      largest = max(largest, abs(weighed(even + i, odd + i, i)));
    }
    largest *= inverse_rms;
    let factor = select(vec2f(0.0), 127.0 / largest, largest > vec2f(1e-30)) * inverse_rms;
    for (var i = 32u * chunk; i < 32u * chunk + 32u; i++) {
      let q = vec2<i32>(round(weighed(even + i, odd + i, i) * factor));
      rounded[(32u * params.n_chunks * group.y + i) * 4u + word] = q.y * 65536 + q.x;
    }
    let at = (params.n_chunks * group.y + chunk) * 8u + word;
    scales[at] = largest.x / 127.0;
    scales[at + 4u] = largest.y / 127.0;
  }
}

fn weighed(even: u32, odd: u32, column: u32) -> vec2f {
  let v = vec2f(x[even], x[odd]);
  if NORM {
    return v * norm[column];
  }
  return v;
}
