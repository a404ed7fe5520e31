// The tiles of matmul in signed bytes, for dot4I8Packed: weights as their quants, x rounded.

var<workgroup> w_first: array<vec4<u32>, 64>;   // [2, PAIRS] the first sixteen of a row's chunk
var<workgroup> w_second: array<vec4<u32>, 64>;  // and the second
var<workgroup> w_scales: array<vec4f, 64>;      // scales of either half, then offsets
var<workgroup> x_first: array<vec4<u32>, 32>;   // [TOKENS]
var<workgroup> x_second: array<vec4<u32>, 32>;
var<workgroup> x_scales: array<vec2f, 64>;      // [2, TOKENS] scale and sum of half a chunk

fn put_w(row: u32, w: Weights32) {
  w_first[row] = vec4<u32>(w.q[0], w.q[1], w.q[2], w.q[3]);
  w_second[row] = vec4<u32>(w.q[4], w.q[5], w.q[6], w.q[7]);
  w_scales[row] = vec4f(w.scale, w.offset);
}

fn put_x(token: u32, half: u32, v: mat4x4f) {
  let rounded = round16(v[0], v[1], v[2], v[3]);
  if half == 0u {
    x_first[token] = rounded.q;
  } else {
    x_second[token] = rounded.q;
  }
  x_scales[half * TOKENS + token] = vec2f(rounded.scale, rounded.sum);
}

// A chunk of a token's x.
struct X32 {
  first: vec4<u32>,
  second: vec4<u32>,
  scale: vec2f,
  sum: vec2f,
}

// What the chunk adds to rows p, p + 16, p + 32 and p + 48, each for tokens t, t + 8, t + 16 and t + 24.
fn tile_sums(p: u32, t: u32) -> mat4x4f {
  let x0 = load_x(t);
  let x1 = load_x(t + 8u);
  let x2 = load_x(t + 16u);
  let x3 = load_x(t + 24u);
  return mat4x4f(
    row_sums(p, x0, x1, x2, x3), row_sums(p + 16u, x0, x1, x2, x3),
    row_sums(p + 32u, x0, x1, x2, x3), row_sums(p + 48u, x0, x1, x2, x3));
}

fn load_x(token: u32) -> X32 {
  let a = x_scales[token];
  let b = x_scales[TOKENS + token];
  return X32(x_first[token], x_second[token], vec2f(a.x, b.x), vec2f(a.y, b.y));
}

fn row_sums(row: u32, x0: X32, x1: X32, x2: X32, x3: X32) -> vec4f {
  let first = w_first[row];
  let second = w_second[row];
  let scales = w_scales[row];
  return vec4f(
    row_dot(first, second, scales, x0), row_dot(first, second, scales, x1),
    row_dot(first, second, scales, x2), row_dot(first, second, scales, x3));
}

fn row_dot(first: vec4<u32>, second: vec4<u32>, scales: vec4f, v: X32) -> f32 {
  let sums = vec2f(f32(dot16(first, v.first)), f32(dot16(second, v.second)));
  return dot(scales.xy, sums * v.scale) + dot(scales.zw, v.sum);
}

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
  return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}
