// The tiles of matmul in f32.

// vec4 from one row to the next in workgroup memory: 8 hold a chunk, the ninth spreads rows over banks.
const STRIDE = 9u;

var<workgroup> w_tile: array<vec4f, 576>;  // [2, PAIRS, STRIDE]: first rows of all pairs, then second rows
var<workgroup> x_tile: array<vec4f, 288>;  // [TOKENS, STRIDE]

fn put_w(row: u32, w: Weights32) {
  let at = row * STRIDE;
  w_tile[at] = w.q[0] * w.scale.x + w.offset.x;
  w_tile[at + 1u] = w.q[1] * w.scale.x + w.offset.x;
  w_tile[at + 2u] = w.q[2] * w.scale.x + w.offset.x;
  w_tile[at + 3u] = w.q[3] * w.scale.x + w.offset.x;
  w_tile[at + 4u] = w.q[4] * w.scale.y + w.offset.y;
  w_tile[at + 5u] = w.q[5] * w.scale.y + w.offset.y;
  w_tile[at + 6u] = w.q[6] * w.scale.y + w.offset.y;
  w_tile[at + 7u] = w.q[7] * w.scale.y + w.offset.y;
}

fn put_x(token: u32, half: u32, v: mat4x4f) {
  let at = token * STRIDE + 4u * half;
  x_tile[at] = v[0];
  x_tile[at + 1u] = v[1];
  x_tile[at + 2u] = v[2];
  x_tile[at + 3u] = v[3];
}

// What the chunk adds to rows p, p + 16, p + 32 and p + 48, each for tokens t, t + 8, t + 16 and t + 24.
fn tile_sums(p: u32, t: u32) -> mat4x4f {
  var sums = mat4x4f();
  for (var k = 0u; k < 8u; k++) {
    let x0 = x_tile[t * STRIDE + k];
    let x1 = x_tile[(t + 8u) * STRIDE + k];
    let x2 = x_tile[(t + 16u) * STRIDE + k];
    let x3 = x_tile[(t + 24u) * STRIDE + k];
    let wa = w_tile[p * STRIDE + k];
    let wb = w_tile[(p + 16u) * STRIDE + k];
    let wc = w_tile[(p + 32u) * STRIDE + k];
    let wd = w_tile[(p + 48u) * STRIDE + k];
    sums[0] += vec4f(dot(wa, x0), dot(wa, x1), dot(wa, x2), dot(wa, x3));
    sums[1] += vec4f(dot(wb, x0), dot(wb, x1), dot(wb, x2), dot(wb, x3));
    sums[2] += vec4f(dot(wc, x0), dot(wc, x1), dot(wc, x2), dot(wc, x3));
    sums[3] += vec4f(dot(wd, x0), dot(wd, x1), dot(wd, x2), dot(wd, x3));
  }
  return sums;
}
