// y = W·x for devices that compute on the CPU, with RMSNorm fused in as in matvec.wgsl. They load every element by
// itself, keep what threads share no nearer than memory, and take long to compile what is unrolled: so a thread has
// PAIRS row pairs by TOKENS tokens for itself, in registers, and goes through the columns eight at a time.
//
// Grid: x, THREADS threads a workgroup; y, TOKENS tokens. Eight of x, which all threads need, come from load8: see
// shared/x8_own.wgsl and shared/x8_shared.wgsl.

override THREADS: u32 = 8u;
override PAIRS: u32 = 4u;    // 1, 2 or 4
override TOKENS: u32 = 1u;   // 1 or 8

const MOST_TOKENS = 8u;

// A pair's two sums for every token.
alias Sums = array<mat4x2f, 2>;

// The weights of a chunk's two rows: scale and offset of either half.
alias Scales = array<mat2x2f, 2>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  begin8();
  let first_token = group.y * TOKENS;
  let first_pair = (group.x * THREADS + thread) * PAIRS;
  let rows0 = rows_of(first_pair);
  let rows1 = rows_of(first_pair + 1u);
  let rows2 = rows_of(first_pair + 2u);
  let rows3 = rows_of(first_pair + 3u);
  var y0: Sums;
  var y1: Sums;
  var y2: Sums;
  var y3: Sums;
  var squares: array<vec4f, 2>;
  for (var chunk = 0u; chunk < params.n_chunks; chunk++) {
    let s0 = Scales(scales(rows0.x, chunk), scales(rows0.y, chunk));
    var s1: Scales;
    var s2: Scales;
    var s3: Scales;
    if PAIRS > 1u {
      s1 = Scales(scales(rows1.x, chunk), scales(rows1.y, chunk));
    }
    if PAIRS > 2u {
      s2 = Scales(scales(rows2.x, chunk), scales(rows2.y, chunk));
      s3 = Scales(scales(rows3.x, chunk), scales(rows3.y, chunk));
    }
    for (var quarter = 0u; quarter < 4u; quarter++) {
      let at = 2u * (4u * chunk + quarter);
      let g = norm8(at);
      var x8: array<X8, 8>;
      x8[0] = load_token(first_token, at, g);
      if TOKENS > 1u {
        x8[1] = load_token(first_token + 1u, at, g);
        x8[2] = load_token(first_token + 2u, at, g);
        x8[3] = load_token(first_token + 3u, at, g);
        x8[4] = load_token(first_token + 4u, at, g);
        x8[5] = load_token(first_token + 5u, at, g);
        x8[6] = load_token(first_token + 6u, at, g);
        x8[7] = load_token(first_token + 7u, at, g);
      }
      squares[0] += vec4f(x8[0].square, x8[1].square, x8[2].square, x8[3].square);
      squares[1] += vec4f(x8[4].square, x8[5].square, x8[6].square, x8[7].square);
      y0 = with_eight(y0, rows0, s0, chunk, quarter, x8);
      if PAIRS > 1u {
        y1 = with_eight(y1, rows1, s1, chunk, quarter, x8);
      }
      if PAIRS > 2u {
        y2 = with_eight(y2, rows2, s2, chunk, quarter, x8);
        y3 = with_eight(y3, rows3, s3, chunk, quarter, x8);
      }
    }
  }

  var scale = array<f32, MOST_TOKENS>(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0);
  if params.has_norm != 0u {
    squares[0] = joined4(squares[0]);
    squares[1] = joined4(squares[1]);
    for (var t = 0u; t < TOKENS; t++) {
      scale[t] = inverseSqrt(squares[t / 4u][t % 4u] / f32(params.cols) + params.eps);
    }
  }
  for (var t = 0u; t < TOKENS; t++) {
    results[t * PAIRS] = y0[t / 4u][t % 4u] * scale[t];
    if PAIRS > 1u {
      results[t * PAIRS + 1u] = y1[t / 4u][t % 4u] * scale[t];
    }
    if PAIRS > 2u {
      results[t * PAIRS + 2u] = y2[t / 4u][t % 4u] * scale[t];
      results[t * PAIRS + 3u] = y3[t / 4u][t % 4u] * scale[t];
    }
  }
  store_rows(first_token, first_pair);
}

// The rows of a pair. Past the last pair, that again: lanes that share x all go along.
fn rows_of(pair: u32) -> vec2<u32> {
  return pair_rows(min(pair, params.n_pairs - 1u));
}

// Of a token, from vec4 `at` of its x on; past the last token, that again.
fn load_token(token: u32, at: u32, g: G8) -> X8 {
  return load8((step.first_token + min(token, step.n_tokens - 1u)) * params.x_stride + at, g);
}

fn with_eight(before: Sums, rows: vec2<u32>, s: Scales, chunk: u32, quarter: u32, x8: array<X8, 8>) -> Sums {
  let a = weights8(rows.x, s[0], chunk, quarter);
  let b = weights8(rows.y, s[1], chunk, quarter);
  var y = before;
  y[0][0] += vec2f(dot8(a, x8[0].x), dot8(b, x8[0].x));
  if TOKENS > 1u {
    y[0][1] += vec2f(dot8(a, x8[1].x), dot8(b, x8[1].x));
    y[0][2] += vec2f(dot8(a, x8[2].x), dot8(b, x8[2].x));
    y[0][3] += vec2f(dot8(a, x8[3].x), dot8(b, x8[3].x));
    y[1][0] += vec2f(dot8(a, x8[4].x), dot8(b, x8[4].x));
    y[1][1] += vec2f(dot8(a, x8[5].x), dot8(b, x8[5].x));
    y[1][2] += vec2f(dot8(a, x8[6].x), dot8(b, x8[6].x));
    y[1][3] += vec2f(dot8(a, x8[7].x), dot8(b, x8[7].x));
  }
  return y;
}

// Eight weights as they are.
fn weights8(row: u32, s: mat2x2f, chunk: u32, quarter: u32) -> mat2x4f {
  let q = quants8(row, chunk, quarter);
  let scale = select(s[0].x, s[0].y, quarter > 1u);
  let offset = vec4f(select(s[1].x, s[1].y, quarter > 1u));
  return mat2x4f(scale * q[0] + offset, scale * q[1] + offset);
}

fn dot8(a: mat2x4f, b: mat2x4f) -> f32 {
  return dot(a[0], b[0]) + dot(a[1], b[1]);
}
