// The tiles of matmul in f16: weights as their quants, which f16 holds exactly, and x as a share of the largest
// of sixteen, so that nothing overflows. Four products are summed in f16, all else in f32.

// vec4 from one row to the next in workgroup memory: 8 hold a chunk, the ninth spreads rows over banks.
const STRIDE = 9u;

var<workgroup> w_tile: array<vec4<f16>, 576>;  // [2, PAIRS, STRIDE]: first rows of all pairs, then second rows
var<workgroup> w_scales: array<vec4f, 64>;     // scales of either half, then offsets
var<workgroup> x_tile: array<vec4<f16>, 288>;  // [TOKENS, STRIDE]
var<workgroup> x_scales: array<vec2f, 64>;     // [2, TOKENS] scale and sum of half a chunk

fn put_w(row: u32, w: Weights32) {
  let at = row * STRIDE;
  for (var k = 0u; k < 8u; k++) {
    w_tile[at + k] = vec4<f16>(w.q[k]);
  }
  w_scales[row] = vec4f(w.scale, w.offset);
}

fn put_x(token: u32, half: u32, v: mat4x4f) {
  let m = max(max(abs(v[0]), abs(v[1])), max(abs(v[2]), abs(v[3])));
  let largest = max(max(m.x, m.y), max(m.z, m.w));
  let inverse = select(0.0, 1.0 / largest, largest > 1e-30);
  let at = token * STRIDE + 4u * half;
  var sum = 0.0;
  for (var k = 0u; k < 4u; k++) {
    let q = vec4<f16>(v[k] * inverse);
    x_tile[at + k] = q;
    sum += dot(vec4f(q), vec4f(1.0));
  }
  x_scales[half * TOKENS + token] = vec2f(largest, largest * sum);
}

// What the chunk adds to rows p, p + 16, p + 32 and p + 48, each for tokens t, t + 8, t + 16 and t + 24.
fn tile_sums(p: u32, t: u32) -> mat4x4f {
  return half_sums(p, t, 0u) + half_sums(p, t, 1u);
}

fn half_sums(p: u32, t: u32, half: u32) -> mat4x4f {
  var sums = mat4x4f();
  for (var k = 4u * half; k < 4u * half + 4u; k++) {
    let x0 = x_tile[t * STRIDE + k];
    let x1 = x_tile[(t + 8u) * STRIDE + k];
    let x2 = x_tile[(t + 16u) * STRIDE + k];
    let x3 = x_tile[(t + 24u) * STRIDE + k];
    let wa = w_tile[p * STRIDE + k];
    let wb = w_tile[(p + 16u) * STRIDE + k];
    let wc = w_tile[(p + 32u) * STRIDE + k];
    let wd = w_tile[(p + 48u) * STRIDE + k];
    sums[0] += vec4f(vec4<f16>(dot(wa, x0), dot(wa, x1), dot(wa, x2), dot(wa, x3)));
    sums[1] += vec4f(vec4<f16>(dot(wb, x0), dot(wb, x1), dot(wb, x2), dot(wb, x3)));
    sums[2] += vec4f(vec4<f16>(dot(wc, x0), dot(wc, x1), dot(wc, x2), dot(wc, x3)));
    sums[3] += vec4f(vec4<f16>(dot(wd, x0), dot(wd, x1), dot(wd, x2), dot(wd, x3)));
  }
  let at = half * TOKENS + t;
  let x0 = x_scales[at];
  let x1 = x_scales[at + 8u];
  let x2 = x_scales[at + 16u];
  let x3 = x_scales[at + 24u];
  let scale = vec4f(x0.x, x1.x, x2.x, x3.x);
  let sum = vec4f(x0.y, x1.y, x2.y, x3.y);
  return mat4x4f(
    scaled(sums[0], scale, sum, p, half), scaled(sums[1], scale, sum, p + 16u, half),
    scaled(sums[2], scale, sum, p + 32u, half), scaled(sums[3], scale, sum, p + 48u, half));
}

fn scaled(sums: vec4f, x_scale: vec4f, x_sum: vec4f, row: u32, half: u32) -> vec4f {
  let w = w_scales[row];
  return sums * x_scale * select(w.x, w.y, half == 1u) + x_sum * select(w.z, w.w, half == 1u);
}
