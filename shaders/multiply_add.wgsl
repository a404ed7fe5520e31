// As many multiplications and additions as the device can do: 16 independent chains of vec4 a thread, which
// measure a ceiling.
//
// Grid: x, workgroups of 64 threads.

override ROUNDS: u32 = 256u;

@group(0) @binding(0) var<storage, read_write> y: array<vec4f>;  // one a thread, so that nothing is left out

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) thread: vec3<u32>) {
  let seed = y[thread.x];
  var a = mat4x4f(seed, seed + 1.0, seed + 2.0, seed + 3.0);
  var b = a + a;
  var c = b + a;
  var d = c + a;
  // Below 1, so that the chains come to rest instead of running off; of the memory, so that they are computed at all.
  let f = clamp(seed, vec4f(0.0), vec4f(1.0)) * 0.25 + 0.5;
  for (var i = 0u; i < ROUNDS; i++) {
    a = mat4x4f(fma(a[0], f, f), fma(a[1], f, f), fma(a[2], f, f), fma(a[3], f, f));
    b = mat4x4f(fma(b[0], f, f), fma(b[1], f, f), fma(b[2], f, f), fma(b[3], f, f));
    c = mat4x4f(fma(c[0], f, f), fma(c[1], f, f), fma(c[2], f, f), fma(c[3], f, f));
    d = mat4x4f(fma(d[0], f, f), fma(d[1], f, f), fma(d[2], f, f), fma(d[3], f, f));
  }
  let sum = a + b + c + d;
  y[thread.x] = sum[0] + sum[1] + sum[2] + sum[3];
}
