// Y = X·Wᵀ for many tokens, 32 row pairs by 32 tokens at a time, with RMSNorm fused in as in matvec.
//
// Grid: x, tiles of 32 row pairs; y, tiles of 32 tokens. Along the columns a chunk at a time: of 128 threads
// 64 decode the chunk of a row each into workgroup memory and 64 copy that of 32 tokens, then each sums two
// row pairs by four tokens.

override NORM: bool = false;

const PAIRS = 32u;   // row pairs a tile
const TOKENS = 32u;  // tokens a tile
// vec4 from one row to the next in workgroup memory: 8 hold a chunk, the ninth spreads rows over banks.
const STRIDE = 9u;

var<workgroup> w_tile: array<vec4f, 576>;  // [2, PAIRS, STRIDE]: first rows of all pairs, then second rows
var<workgroup> x_tile: array<vec4f, 288>;  // [TOKENS, STRIDE]
var<workgroup> squares: array<f32, 64>;    // [TOKENS, 2] parts of Σ x²

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_pair = group.x * PAIRS;
  let first_token = group.y * TOKENS;

  // To load: the first 64 threads a row each, the others half a token each.
  let loads_weights = thread < 64u;
  let slot = thread & 63u;
  let pair_row = pair_rows(min(first_pair + (slot & 31u), params.n_pairs - 1u));
  let row = select(pair_row.x, pair_row.y, slot >= PAIRS);
  let x_token = slot >> 1u;
  let x_part = (slot & 1u) * 4u;
  let x_live = first_token + x_token < step.n_tokens;
  let x_row = (step.first_token + min(first_token + x_token, step.n_tokens - 1u)) * params.x_stride;

  // To sum: pairs p and p + 16, tokens t, t + 8, t + 16, t + 24.
  let p = thread & 15u;
  let t = thread >> 4u;
  var first_a = vec4f(0.0);  // pair p, a vec4 over the four tokens
  var second_a = vec4f(0.0);
  var first_b = vec4f(0.0);  // pair p + 16
  var second_b = vec4f(0.0);

  var square = 0.0;
  for (var chunk = 0u; chunk < params.n_chunks; chunk++) {
    if loads_weights {
      let w = weights32(row, chunk);
      let at = slot * STRIDE;
      w_tile[at] = w.q[0] * w.scale.x + w.offset.x;
      w_tile[at + 1u] = w.q[1] * w.scale.x + w.offset.x;
      w_tile[at + 2u] = w.q[2] * w.scale.x + w.offset.x;
      w_tile[at + 3u] = w.q[3] * w.scale.x + w.offset.x;
      w_tile[at + 4u] = w.q[4] * w.scale.y + w.offset.y;
      w_tile[at + 5u] = w.q[5] * w.scale.y + w.offset.y;
      w_tile[at + 6u] = w.q[6] * w.scale.y + w.offset.y;
      w_tile[at + 7u] = w.q[7] * w.scale.y + w.offset.y;
    } else {
      for (var i = x_part; i < x_part + 4u; i++) {
        var value = x[x_row + 8u * chunk + i];
        if NORM {
          square += dot(value, value);
          value *= norm[8u * chunk + i];
        }
        x_tile[x_token * STRIDE + i] = select(vec4f(0.0), value, x_live);
      }
    }
    workgroupBarrier();
    for (var k = 0u; k < 8u; k++) {
      let x0 = x_tile[t * STRIDE + k];
      let x1 = x_tile[(t + 8u) * STRIDE + k];
      let x2 = x_tile[(t + 16u) * STRIDE + k];
      let x3 = x_tile[(t + 24u) * STRIDE + k];
      let wa = w_tile[p * STRIDE + k];
      let wb = w_tile[(p + 16u) * STRIDE + k];
      let wc = w_tile[(p + 32u) * STRIDE + k];
      let wd = w_tile[(p + 48u) * STRIDE + k];
      first_a += vec4f(dot(wa, x0), dot(wa, x1), dot(wa, x2), dot(wa, x3));
      first_b += vec4f(dot(wb, x0), dot(wb, x1), dot(wb, x2), dot(wb, x3));
      second_a += vec4f(dot(wc, x0), dot(wc, x1), dot(wc, x2), dot(wc, x3));
      second_b += vec4f(dot(wd, x0), dot(wd, x1), dot(wd, x2), dot(wd, x3));
    }
    workgroupBarrier();
  }

  var scales = vec4f(1.0);
  if NORM {
    if !loads_weights {
      squares[slot] = square;
    }
    workgroupBarrier();
    let sums = vec4f(
      squares[2u * t] + squares[2u * t + 1u], squares[2u * t + 16u] + squares[2u * t + 17u],
      squares[2u * t + 32u] + squares[2u * t + 33u], squares[2u * t + 48u] + squares[2u * t + 49u]);
    scales = inverseSqrt(sums / f32(params.cols) + params.eps);
  }
  for (var i = 0u; i < 4u; i++) {
    let token = first_token + t + 8u * i;
    if token < step.n_tokens {
      if first_pair + p < params.n_pairs {
        store_pair(token, first_pair + p, vec2f(first_a[i], second_a[i]) * scales[i]);
      }
      if first_pair + p + 16u < params.n_pairs {
        store_pair(token, first_pair + p + 16u, vec2f(first_b[i], second_b[i]) * scales[i]);
      }
    }
  }
}
