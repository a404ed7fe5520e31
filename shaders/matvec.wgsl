// y = W·x for few tokens, with RMSNorm fused in:
// W·(g ⊙ x / rms(x)) = (Σ w·g·x) / sqrt(Σ x² / cols + eps), so one pass gathers both sums.
//
// Grid: x, GROUPS groups of PAIRS row pairs a workgroup; y, TOKENS tokens. The LANES threads of a group take
// the chunks of its rows in turn, so that neighbours load neighbouring 16 bytes; every weight serves all tokens
// of the group, and every x all rows.

override LANES: u32 = 32u;    // threads a group, a power of two
override GROUPS: u32 = 2u;    // groups a workgroup
override PAIRS: u32 = 1u;     // row pairs a group: 1, 2 or 4
override TOKENS: u32 = 1u;    // tokens a group: 1 or 4
override THREADS: u32 = 64u;  // LANES · GROUPS
override SUMS: u32 = 192u;    // THREADS · TOKENS · (2·PAIRS + 1)
override JOINED: u32 = 1u;    // lanes that a subgroup joins: at most LANES, and no more than the device's least
override NORM: bool = false;

var<workgroup> sums: array<f32, SUMS>;  // [TOKENS, 2·PAIRS + 1, THREADS]: the rows' y, then Σ x²

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let lane = thread % LANES;
  let first_token = group.y * TOKENS;
  let first_pair = (group.x * GROUPS + thread / LANES) * PAIRS;
  let rows0 = rows_of(first_pair);
  let rows1 = rows_of(first_pair + 1u);
  let rows2 = rows_of(first_pair + 2u);
  let rows3 = rows_of(first_pair + 3u);

  var y0: mat4x2f;
  var y1: mat4x2f;
  var y2: mat4x2f;
  var y3: mat4x2f;
  var squares: vec4f;
  for (var first_chunk = 0u; first_chunk < params.n_chunks; first_chunk += X_CHUNKS) {
    stage_x(first_token, first_chunk, thread);
    let end = min(first_chunk + X_CHUNKS, params.n_chunks);
    for (var chunk = first_chunk + lane; chunk < end; chunk += LANES) {
      let xs = load_x(first_token, chunk);
      squares += vec4f(xs[0].square, xs[1].square, xs[2].square, xs[3].square);
      y0 = with_chunk(y0, rows0, chunk, xs);
      if PAIRS > 1u {
        y1 = with_chunk(y1, rows1, chunk, xs);
      }
      if PAIRS > 2u {
        y2 = with_chunk(y2, rows2, chunk, xs);
        y3 = with_chunk(y3, rows3, chunk, xs);
      }
    }
  }

  y0 = in_subgroup(y0);
  if PAIRS > 1u {
    y1 = in_subgroup(y1);
  }
  if PAIRS > 2u {
    y2 = in_subgroup(y2);
    y3 = in_subgroup(y3);
  }
  if NORM {
    squares = in_subgroup4(squares);
  }
  let first_slot = thread - lane;
  if lane % JOINED == 0u {
    put(thread, 0u, y0);
    if PAIRS > 1u {
      put(thread, 1u, y1);
    }
    if PAIRS > 2u {
      put(thread, 2u, y2);
      put(thread, 3u, y3);
    }
    if NORM {
      for (var t = 0u; t < TOKENS; t++) {
        sums[sum_at(thread, t, 2u * PAIRS)] = squares[t];
      }
    }
  }
  for (var n = LANES / 2u; n >= JOINED; n /= 2u) {
    workgroupBarrier();
    if lane < n && lane % JOINED == 0u {
      for (var at = thread; at < SUMS; at += THREADS) {
        sums[at] += sums[at + n];
      }
    }
  }
  workgroupBarrier();
  // The lanes share the results out.
  for (var i = lane; i < PAIRS * TOKENS; i += LANES) {
    let t = i / PAIRS;
    let pair = i % PAIRS;
    if first_token + t < step.n_tokens && first_pair + pair < params.n_pairs {
      var scale = 1.0;
      if NORM {
        scale = inverseSqrt(sums[sum_at(first_slot, t, 2u * PAIRS)] / f32(params.cols) + params.eps);
      }
      let y = vec2f(sums[sum_at(first_slot, t, 2u * pair)], sums[sum_at(first_slot, t, 2u * pair + 1u)]);
      store_pair(first_token + t, first_pair + pair, y * scale);
    }
  }
}

// The rows of a pair. Past the last pair, that again: spare groups must still reach every barrier.
fn rows_of(pair: u32) -> vec2<u32> {
  return pair_rows(min(pair, params.n_pairs - 1u));
}

// A pair's two sums for every token.
fn with_chunk(before: mat4x2f, rows: vec2<u32>, chunk: u32, xs: array<X32, 4>) -> mat4x2f {
  let a = weights32(rows.x, chunk);
  let b = weights32(rows.y, chunk);
  var y = before;
  y[0] += vec2f(row_dot(a, xs[0]), row_dot(b, xs[0]));
  if TOKENS > 1u {
    y[1] += vec2f(row_dot(a, xs[1]), row_dot(b, xs[1]));
    y[2] += vec2f(row_dot(a, xs[2]), row_dot(b, xs[2]));
    y[3] += vec2f(row_dot(a, xs[3]), row_dot(b, xs[3]));
  }
  return y;
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
