// Y = X·Wᵀ for many tokens, 32 row pairs by 32 tokens at a time, with RMSNorm fused in as in matvec.
//
// Grid: x, tiles of 32 row pairs; y, tiles of 32 tokens. Along the columns a chunk at a time: of 128 threads
// 64 decode the chunk of a row each into workgroup memory and 64 copy that of 32 tokens, then each sums two
// row pairs by four tokens. In which numbers, the tile's file says: it gives put_w, put_x and tile_sums.

override NORM: bool = false;

const PAIRS = 32u;   // row pairs a tile
const TOKENS = 32u;  // tokens a tile

var<workgroup> squares: array<f32, 64>;  // [TOKENS, 2] parts of Σ x²

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
  let x_row = (step.first_token + min(first_token + x_token, step.n_tokens - 1u)) * params.x_stride;

  // To sum: pairs p and p + 16, tokens t, t + 8, t + 16, t + 24.
  let p = thread & 15u;
  let t = thread >> 4u;
  var sums = mat4x4f();  // rows p and p + 16 of the first rows, then of the second, each over the four tokens

  var square = 0.0;
  for (var chunk = 0u; chunk < params.n_chunks; chunk++) {
    if loads_weights {
      put_w(slot, weights32(row, chunk));
    } else {
      let at = 8u * chunk + x_part;
      var v = mat4x4f(x[x_row + at], x[x_row + at + 1u], x[x_row + at + 2u], x[x_row + at + 3u]);
      if NORM {
        square += dot(v[0], v[0]) + dot(v[1], v[1]) + dot(v[2], v[2]) + dot(v[3], v[3]);
        v[0] *= norm(at);
        v[1] *= norm(at + 1u);
        v[2] *= norm(at + 2u);
        v[3] *= norm(at + 3u);
      }
      put_x(x_token, slot & 1u, v);
    }
    workgroupBarrier();
    sums += tile_sums(p, t);
    workgroupBarrier();
  }

  var scales = vec4f(1.0);
  if NORM {
    if !loads_weights {
      squares[slot] = square;
    }
    workgroupBarrier();
    let x_squares = vec4f(
      squares[2u * t] + squares[2u * t + 1u], squares[2u * t + 16u] + squares[2u * t + 17u],
      squares[2u * t + 32u] + squares[2u * t + 33u], squares[2u * t + 48u] + squares[2u * t + 49u]);
    scales = inverseSqrt(x_squares / f32(params.cols) + params.eps);
  }
  for (var i = 0u; i < 4u; i++) {
    let token = first_token + t + 8u * i;
    if token < step.n_tokens {
      if first_pair + p < params.n_pairs {
        store_pair(token, first_pair + p, vec2f(sums[0][i], sums[2][i]) * scales[i]);
      }
      if first_pair + p + 16u < params.n_pairs {
        store_pair(token, first_pair + p + 16u, vec2f(sums[1][i], sums[3][i]) * scales[i]);
      }
    }
  }
}
