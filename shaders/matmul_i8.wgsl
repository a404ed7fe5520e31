// Y = X·Wᵀ for many tokens, 32 row pairs by 64 tokens at a time, in signed bytes for dot4I8Packed: weights as their
// quants, x rounded beforehand by round_chunks.wgsl.
//
// Grid: x, tiles of 32 row pairs; y, tiles of 64 tokens. Along the columns two chunks at a time: each of 128 threads
// brings one of a row and one of a token into workgroup memory, then sums four row pairs by four tokens.

const PAIRS = 32u;   // row pairs a tile
const TOKENS = 64u;  // tokens a tile

@group(0) @binding(2) var<storage, read> x: array<vec4<u32>>;  // [n_tokens, n_chunks, 3]: as round_chunks.wgsl leaves it

// Of two chunks, the first rows of all pairs, then the second rows; and the tokens.
var<workgroup> w_first: array<vec4<u32>, 128>;   // [2, 2, PAIRS] the first sixteen of a chunk
var<workgroup> w_second: array<vec4<u32>, 128>;  // and the second
var<workgroup> w_scales: array<vec4f, 128>;      // scales of either half, then offsets
var<workgroup> x_first: array<vec4<u32>, 128>;   // [2, TOKENS]
var<workgroup> x_second: array<vec4<u32>, 128>;
var<workgroup> x_scales: array<vec4f, 128>;      // scales of either half, then sums

// A chunk of a token's x.
struct X32 {
  first: vec4<u32>,
  second: vec4<u32>,
  scales: vec4f,
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_pair = group.x * PAIRS;
  let first_token = group.y * TOKENS;

  // To bring: neighbours two chunks of the same row and token.
  let slot = thread / 2u;
  let which = thread % 2u;
  let pair_row = pair_rows(min(first_pair + slot / 2u, params.n_pairs - 1u));
  let row = select(pair_row.x, pair_row.y, slot % 2u == 1u);
  let x_row = min(first_token + slot, step.n_tokens - 1u) * params.n_chunks;
  let w_slot = 64u * which + 32u * (slot % 2u) + slot / 2u;
  let x_slot = 64u * which + slot;

  // To sum: pairs p, p + 8, p + 16, p + 24, tokens t, t + 16, t + 32, t + 48.
  let p = thread % 8u;
  let t = thread / 8u;
  var sums_a = mat4x4f();  // the first rows of the pairs, each over the four tokens
  var sums_b = mat4x4f();  // the second rows

  for (var first_chunk = 0u; first_chunk < params.n_chunks; first_chunk += 2u) {
    let chunk = first_chunk + which;
    // Past the last chunk of an odd number there are zeros.
    var w = Weights32();
    var v = X32();
    if chunk < params.n_chunks {
      w = weights32(row, chunk);
      let at = (x_row + chunk) * 3u;
      v = X32(x[at], x[at + 1u], bitcast<vec4f>(x[at + 2u]));
    }
    w_first[w_slot] = vec4<u32>(w.q[0], w.q[1], w.q[2], w.q[3]);
    w_second[w_slot] = vec4<u32>(w.q[4], w.q[5], w.q[6], w.q[7]);
    w_scales[w_slot] = vec4f(w.scale, w.offset);
    x_first[x_slot] = v.first;
    x_second[x_slot] = v.second;
    x_scales[x_slot] = v.scales;
    workgroupBarrier();
    for (var c = 0u; c < 128u; c += 64u) {
      let x0 = load_x(c + t);
      let x1 = load_x(c + t + 16u);
      let x2 = load_x(c + t + 32u);
      let x3 = load_x(c + t + 48u);
      sums_a[0] += row_sums(c + p, x0, x1, x2, x3);
      sums_a[1] += row_sums(c + p + 8u, x0, x1, x2, x3);
      sums_a[2] += row_sums(c + p + 16u, x0, x1, x2, x3);
      sums_a[3] += row_sums(c + p + 24u, x0, x1, x2, x3);
      sums_b[0] += row_sums(c + p + 32u, x0, x1, x2, x3);
      sums_b[1] += row_sums(c + p + 40u, x0, x1, x2, x3);
      sums_b[2] += row_sums(c + p + 48u, x0, x1, x2, x3);
      sums_b[3] += row_sums(c + p + 56u, x0, x1, x2, x3);
    }
    workgroupBarrier();
  }

  for (var i = 0u; i < 4u; i++) {
    let pair = first_pair + p + 8u * i;
    for (var j = 0u; j < 4u; j++) {
      let token = first_token + t + 16u * j;
      if pair < params.n_pairs && token < step.n_tokens {
        store_pair(token, pair, vec2f(sums_a[i][j], sums_b[i][j]));
      }
    }
  }
}

fn load_x(at: u32) -> X32 {
  return X32(x_first[at], x_second[at], x_scales[at]);
}

// What a chunk of a row adds for four tokens.
fn row_sums(at: u32, x0: X32, x1: X32, x2: X32, x3: X32) -> vec4f {
  let first = w_first[at];
  let second = w_second[at];
  let scales = w_scales[at];
  return vec4f(
    row_dot(first, second, scales, x0), row_dot(first, second, scales, x1),
    row_dot(first, second, scales, x2), row_dot(first, second, scales, x3));
}

fn row_dot(first: vec4<u32>, second: vec4<u32>, scales: vec4f, v: X32) -> f32 {
  let sums = vec2f(f32(dot16(first, v.first)), f32(dot16(second, v.second)));
  return dot(scales.xy, sums * v.scales.xy) + dot(scales.zw, v.scales.zw);
}

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
  return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}
