// y = W·x for few tokens, with RMSNorm fused in:
// W·(g ⊙ x / rms(x)) = (Σ w·g·x) / sqrt(Σ x² / cols + eps), so one pass gathers both sums.
//
// Grid: x, GROUPS groups of PAIRS row pairs a workgroup; y, TOKENS tokens. The LANES threads of a group take
// the chunks of its rows in turn, so that neighbours load neighbouring 16 bytes; every weight serves all tokens
// of the group, and every x all rows. With one lane a thread has its rows for itself and nothing is joined.

override LANES: u32 = 32u;    // threads a group, a power of two
override GROUPS: u32 = 2u;    // groups a workgroup
override PAIRS: u32 = 1u;     // row pairs a group: 1, 2, 4 or 8
override TOKENS: u32 = 1u;    // tokens a group: 1 or 4
override THREADS: u32 = 64u;  // LANES · GROUPS
override SUMS: u32 = 192u;    // THREADS · TOKENS · (2·PAIRS + 1)
override JOINED: u32 = 1u;    // lanes that a subgroup joins: at most LANES, and no more than the device's least
override NORM: bool = false;

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
  let rows4 = rows_of(first_pair + 4u);
  let rows5 = rows_of(first_pair + 5u);
  let rows6 = rows_of(first_pair + 6u);
  let rows7 = rows_of(first_pair + 7u);

  var y0 = mat4x2f();
  var y1 = mat4x2f();
  var y2 = mat4x2f();
  var y3 = mat4x2f();
  var y4 = mat4x2f();
  var y5 = mat4x2f();
  var y6 = mat4x2f();
  var y7 = mat4x2f();
  var square = vec4f(0.0);
  for (var first_chunk = 0u; first_chunk < params.n_chunks; first_chunk += X_CHUNKS) {
    stage_x(first_token, first_chunk, thread.y * LANES + lane);
    let end = min(first_chunk + X_CHUNKS, params.n_chunks);
    for (var chunk = first_chunk + lane; chunk < end; chunk += LANES) {
      let xs = load_x(first_token, chunk);
      square.x += xs[0].square;
      if TOKENS > 1u {
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
      if PAIRS > 4u {
        y4 += pair_dot(rows4, chunk, xs);
        y5 += pair_dot(rows5, chunk, xs);
        y6 += pair_dot(rows6, chunk, xs);
        y7 += pair_dot(rows7, chunk, xs);
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
  if PAIRS > 4u {
    y4 = in_subgroup(y4);
    y5 = in_subgroup(y5);
    y6 = in_subgroup(y6);
    y7 = in_subgroup(y7);
  }
  if NORM {
    square = in_subgroup4(square);
  }
  let first_slot = thread.y * LANES;
  let slot = first_slot + lane;
  if lane % JOINED == 0u {
    put(slot, 0u, y0);
    if PAIRS > 1u {
      put(slot, 1u, y1);
    }
    if PAIRS > 2u {
      put(slot, 2u, y2);
      put(slot, 3u, y3);
    }
    if PAIRS > 4u {
      put(slot, 4u, y4);
      put(slot, 5u, y5);
      put(slot, 6u, y6);
      put(slot, 7u, y7);
    }
    if NORM {
      for (var t = 0u; t < TOKENS; t++) {
        sums[sum_at(slot, t, 2u * PAIRS)] = square[t];
      }
    }
  }
  for (var n = LANES / 2u; n >= JOINED; n /= 2u) {
    workgroupBarrier();
    if lane < n && lane % JOINED == 0u {
      for (var at = slot; at < SUMS; at += THREADS) {
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

fn put(slot: u32, pair: u32, y: mat4x2f) {
  for (var t = 0u; t < TOKENS; t++) {
    sums[sum_at(slot, t, 2u * pair)] = y[t].x;
    sums[sum_at(slot, t, 2u * pair + 1u)] = y[t].y;
  }
}

fn sum_at(slot: u32, token: u32, i: u32) -> u32 {
  return (token * (2u * PAIRS + 1u) + i) * THREADS + slot;
}
