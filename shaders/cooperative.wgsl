// Y = X·Wᵀ for many tokens, 32 row pairs by 128 tokens at a time, on the units that multiply small matrices of f16:
// cooperative matrices of 16 by 16, which the lanes of a subgroup hold together. x is prepared by halve.wgsl.
//
// Grid: x, tiles of 32 row pairs; y, tiles of 128 tokens. Along the columns two chunks at a time: each of 128 threads
// decodes a chunk of a row into workgroup memory, and all copy those of the tokens; then each of the four subgroups, of
// 32 lanes, sums 32 rows by 64 tokens in eight matrices.

const PAIRS = 32u;     // row pairs a tile
const TOKENS = 128u;   // tokens a tile
const THREADS = 128u;
const STRIDE = 18u;    // vec4 from one row to the next in workgroup memory: 16 hold two chunks, two spread rows over banks

@group(0) @binding(2) var<storage, read> x: array<vec4<f16>>;  // [n_tokens, 8 n_chunks], shares of the token's largest
@group(0) @binding(7) var<storage, read> x_scales: array<f32>;  // [n_tokens]

var<workgroup> w_tile: array<vec4<f16>, 1152>;  // [2·PAIRS, STRIDE]: both rows of a pair, then those of the next
var<workgroup> x_tile: array<vec4<f16>, 2304>;  // [TOKENS, STRIDE]
var<workgroup> sums: array<f32, 1024>;          // [4, 16 tokens, 16 rows]: a matrix of each subgroup

alias WeightMatrix = coop_mat16x16<f16, A>;
alias TokenMatrix = coop_mat16x16<f16, B>;
alias SumMatrix = coop_mat16x16<f32, C>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_pair = group.x * PAIRS;
  let first_token = group.y * TOKENS;

  let w_slot = thread / 2u;
  let pair_row = pair_rows(min(first_pair + w_slot / 2u, params.n_pairs - 1u));
  let row = select(pair_row.x, pair_row.y, w_slot % 2u == 1u);
  let last_token = step.n_tokens - 1u;

  // Of the subgroup: rows from 32·(s % 2) on, tokens from 64·(s / 2) on.
  let subgroup = thread / 32u;
  let w_at = (subgroup % 2u) * 32u * STRIDE;
  let x_at = (subgroup / 2u) * 64u * STRIDE;
  var c00: SumMatrix;
  var c01: SumMatrix;
  var c02: SumMatrix;
  var c03: SumMatrix;
  var c10: SumMatrix;
  var c11: SumMatrix;
  var c12: SumMatrix;
  var c13: SumMatrix;
  for (var chunk = 0u; chunk < params.n_chunks; chunk += 2u) {
    let w_chunk = chunk + thread % 2u;
    // Past the last chunk of an odd number there are zeros.
    var w = Weights32();
    if w_chunk < params.n_chunks {
      w = weights32(row, w_chunk);
    }
    put_w(w_slot * STRIDE + 8u * (thread % 2u), w);
    for (var i = 0u; i < 16u; i++) {
      let token = i * 8u + thread / 16u;
      let part = thread % 16u;
      let at = (min(first_token + token, last_token) * params.n_chunks + chunk) * 8u + part;
      x_tile[token * STRIDE + part] = select(vec4<f16>(), x[at], chunk + part / 8u < params.n_chunks);
    }
    workgroupBarrier();
    for (var k = 0u; k < 16u; k += 4u) {
      let a0 = coopLoadT<WeightMatrix>(&w_tile[w_at + k], STRIDE);
      let a1 = coopLoadT<WeightMatrix>(&w_tile[w_at + 16u * STRIDE + k], STRIDE);
      let b0 = coopLoad<TokenMatrix>(&x_tile[x_at + k], STRIDE);
      let b1 = coopLoad<TokenMatrix>(&x_tile[x_at + 16u * STRIDE + k], STRIDE);
      let b2 = coopLoad<TokenMatrix>(&x_tile[x_at + 32u * STRIDE + k], STRIDE);
      let b3 = coopLoad<TokenMatrix>(&x_tile[x_at + 48u * STRIDE + k], STRIDE);
      c00 = coopMultiplyAdd(a0, b0, c00);
      c01 = coopMultiplyAdd(a0, b1, c01);
      c02 = coopMultiplyAdd(a0, b2, c02);
      c03 = coopMultiplyAdd(a0, b3, c03);
      c10 = coopMultiplyAdd(a1, b0, c10);
      c11 = coopMultiplyAdd(a1, b1, c11);
      c12 = coopMultiplyAdd(a1, b2, c12);
      c13 = coopMultiplyAdd(a1, b3, c13);
    }
    workgroupBarrier();
  }

  // A matrix at a time goes through workgroup memory to the epilogue.
  let at = &sums[256u * subgroup];
  coopStore(c00, at, 16u);
  store_tile(first_pair, first_token, thread, 0u, 0u);
  coopStore(c01, at, 16u);
  store_tile(first_pair, first_token, thread, 0u, 1u);
  coopStore(c02, at, 16u);
  store_tile(first_pair, first_token, thread, 0u, 2u);
  coopStore(c03, at, 16u);
  store_tile(first_pair, first_token, thread, 0u, 3u);
  coopStore(c10, at, 16u);
  store_tile(first_pair, first_token, thread, 1u, 0u);
  coopStore(c11, at, 16u);
  store_tile(first_pair, first_token, thread, 1u, 1u);
  coopStore(c12, at, 16u);
  store_tile(first_pair, first_token, thread, 1u, 2u);
  coopStore(c13, at, 16u);
  store_tile(first_pair, first_token, thread, 1u, 3u);
}

fn put_w(at: u32, w: Weights32) {
  w_tile[at] = vec4<f16>(w.q[0] * w.scale.x + w.offset.x);
  w_tile[at + 1u] = vec4<f16>(w.q[1] * w.scale.x + w.offset.x);
  w_tile[at + 2u] = vec4<f16>(w.q[2] * w.scale.x + w.offset.x);
  w_tile[at + 3u] = vec4<f16>(w.q[3] * w.scale.x + w.offset.x);
  w_tile[at + 4u] = vec4<f16>(w.q[4] * w.scale.y + w.offset.y);
  w_tile[at + 5u] = vec4<f16>(w.q[5] * w.scale.y + w.offset.y);
  w_tile[at + 6u] = vec4<f16>(w.q[6] * w.scale.y + w.offset.y);
  w_tile[at + 7u] = vec4<f16>(w.q[7] * w.scale.y + w.offset.y);
}

// The matrix in `sums` of each subgroup, i-th of two by j-th of four, to the epilogue.
fn store_tile(first_pair: u32, first_token: u32, thread: u32, i: u32, j: u32) {
  workgroupBarrier();
  let subgroup = thread / 32u;
  for (var n = thread % 32u; n < 128u; n += 32u) {
    let pair = first_pair + (subgroup % 2u) * 16u + 8u * i + n % 8u;
    let token = first_token + (subgroup / 2u) * 64u + 16u * j + n / 8u;
    if pair < params.n_pairs && token < step.n_tokens {
      let at = 256u * subgroup + 2u * n;
      store_pair(token, pair, vec2f(sums[at], sums[at + 1u]) * x_scales[token]);
    }
  }
  workgroupBarrier();
}
