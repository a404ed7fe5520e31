// y = W·x for few tokens, with RMSNorm fused in:
// W·(g ⊙ x / rms(x)) = (Σ w·g·x) / sqrt(Σ x² / cols + eps), so one pass gathers both sums.
//
// Grid: x, GROUPS groups of PAIRS row pairs a workgroup; y, TOKENS tokens. The LANES threads of a group take
// the chunks of its rows in turn, so that neighbours load neighbouring 16 bytes; every weight serves all tokens
// of the group, and every x all rows. With one lane a thread has its rows for itself and nothing is joined.

override LANES: u32 = 32u;    // threads a group, a power of two
override GROUPS: u32 = 2u;    // groups a workgroup
override PAIRS: u32 = 1u;     // row pairs a group: 1, 2 or 4
override TOKENS: u32 = 1u;    // tokens a group: 1 or 4
override THREADS: u32 = 64u;  // LANES · GROUPS
override SUMS: u32 = 192u;    // THREADS · TOKENS · (2·PAIRS + 1)
override NORM: bool = false;

// A chunk of a token's x: weighed by the norm, the sums of either half, and the sum of all squares before.
struct X32 {
  x: array<vec4f, 8>,
  sum: vec2f,
  square: f32,
}

var<workgroup> sums: array<f32, SUMS>;  // [TOKENS, 2·PAIRS + 1, THREADS]: the rows' y, then Σ x²

@compute @workgroup_size(LANES, GROUPS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) thread: vec3<u32>) {
  let lane = thread.x % LANES;  // the same number; with one lane, compilers see that it is 0
  let first_token = group.y * TOKENS;
  let first_pair = (group.x * GROUPS + thread.y) * PAIRS;
  let rows0 = rows_of(first_pair);
  let rows1 = rows_of(first_pair + 1u);
  let rows2 = rows_of(first_pair + 2u);
  let rows3 = rows_of(first_pair + 3u);

  var y0 = mat4x2f();
  var y1 = mat4x2f();
  var y2 = mat4x2f();
  var y3 = mat4x2f();
  var square = vec4f(0.0);
  for (var chunk = lane; chunk < params.n_chunks; chunk += LANES) {
    var xs: array<X32, 4>;
    xs[0] = load32(first_token, chunk);
    square.x += xs[0].square;
    if TOKENS > 1u {
      xs[1] = load32(first_token + 1u, chunk);
      xs[2] = load32(first_token + 2u, chunk);
      xs[3] = load32(first_token + 3u, chunk);
      square += vec4f(0.0, xs[1].square, xs[2].square, xs[3].square);
    }
    y0 += pair_dot(rows0, chunk, xs);
    if PAIRS > 1u {
      y1 += pair_dot(rows1, chunk, xs);
    }
    if PAIRS > 2u {
      y2 += pair_dot(rows2, chunk, xs);
      y3 += pair_dot(rows3, chunk, xs);
    }
  }

  let slot = thread.y * LANES + lane;
  put(slot, 0u, y0);
  if PAIRS > 1u {
    put(slot, 1u, y1);
  }
  if PAIRS > 2u {
    put(slot, 2u, y2);
    put(slot, 3u, y3);
  }
  if NORM {
    for (var t = 0u; t < TOKENS; t++) {
      sums[sum_at(slot, t, 2u * PAIRS)] = square[t];
    }
  }
  for (var n = LANES / 2u; n > 0u; n /= 2u) {
    workgroupBarrier();
    if lane < n {
      for (var at = slot; at < SUMS; at += THREADS) {
        sums[at] += sums[at + n];
      }
    }
  }
  if lane == 0u {
    for (var t = 0u; t < TOKENS && first_token + t < step.n_tokens; t++) {
      var scale = 1.0;
      if NORM {
        scale = inverseSqrt(sums[sum_at(slot, t, 2u * PAIRS)] / f32(params.cols) + params.eps);
      }
      for (var i = 0u; i < PAIRS && first_pair + i < params.n_pairs; i++) {
        let y = vec2f(sums[sum_at(slot, t, 2u * i)], sums[sum_at(slot, t, 2u * i + 1u)]);
        store_pair(first_token + t, first_pair + i, y * scale);
      }
    }
  }
}

// The rows of a pair. Past the last pair, that again: spare groups must still reach every barrier.
fn rows_of(pair: u32) -> vec2<u32> {
  return pair_rows(min(pair, params.n_pairs - 1u));
}

// A chunk of a token's x. Past the last token, that again.
fn load32(token: u32, chunk: u32) -> X32 {
  let at = 8u * chunk;
  let x_at = (step.first_token + min(token, step.n_tokens - 1u)) * params.x_stride + at;
  var v = array<vec4f, 8>(
    x[x_at], x[x_at + 1u], x[x_at + 2u], x[x_at + 3u], x[x_at + 4u], x[x_at + 5u], x[x_at + 6u], x[x_at + 7u]);
  var square = 0.0;
  if NORM {
    square = dot(v[0], v[0]) + dot(v[1], v[1]) + dot(v[2], v[2]) + dot(v[3], v[3])
      + dot(v[4], v[4]) + dot(v[5], v[5]) + dot(v[6], v[6]) + dot(v[7], v[7]);
    v[0] *= norm[at];
    v[1] *= norm[at + 1u];
    v[2] *= norm[at + 2u];
    v[3] *= norm[at + 3u];
    v[4] *= norm[at + 4u];
    v[5] *= norm[at + 5u];
    v[6] *= norm[at + 6u];
    v[7] *= norm[at + 7u];
  }
  let ones = vec4f(1.0);
  return X32(v, vec2f(dot(v[0] + v[1] + v[2] + v[3], ones), dot(v[4] + v[5] + v[6] + v[7], ones)), square);
}

fn pair_dot(rows: vec2<u32>, chunk: u32, xs: array<X32, 4>) -> mat4x2f {
  let a = weights32(rows.x, chunk);
  let b = weights32(rows.y, chunk);
  var y = mat4x2f();
  y[0] = vec2f(row_dot(a, xs[0]), row_dot(b, xs[0]));
  if TOKENS > 1u {
    y[1] = vec2f(row_dot(a, xs[1]), row_dot(b, xs[1]));
    y[2] = vec2f(row_dot(a, xs[2]), row_dot(b, xs[2]));
    y[3] = vec2f(row_dot(a, xs[3]), row_dot(b, xs[3]));
  }
  return y;
}

fn row_dot(w: Weights32, v: X32) -> f32 {
  let sums = vec2f(
    dot(w.q[0], v.x[0]) + dot(w.q[1], v.x[1]) + dot(w.q[2], v.x[2]) + dot(w.q[3], v.x[3]),
    dot(w.q[4], v.x[4]) + dot(w.q[5], v.x[5]) + dot(w.q[6], v.x[6]) + dot(w.q[7], v.x[7]));
  return dot(w.scale, sums) + dot(w.offset, v.sum);
}

fn put(slot: u32, pair: u32, y: mat4x2f) {
  for (var t = 0u; t < TOKENS; t++) {
    sums[sum_at(slot, t, 2u * pair)] = y[t].x;
    sums[sum_at(slot, t, 2u * pair + 1u)] = y[t].y;
  }
}

fn sum_at(slot: u32, token: u32, i: u32) -> u32 {
  return (token * (2u * PAIRS + 1u) + i) * THREADS + slot;
}
