// The x of matvec in f32 where threads have rows of their own (LANES = 1), so that all need the same x: a lane of
// a subgroup loads one part in SHARERS of a chunk, and gets the others from its neighbours. For devices that load
// every element by itself.

override SHARERS: u32 = 8u;  // 4 or 8; no more than the device's smallest subgroup

// Chunks that are staged at once: all, as there is nothing to stage.
const X_CHUNKS = 0x40000000u;

// A chunk of a token's x: weighed by the norm, the sums of either half, and of this lane's part the sum of all
// squares before.
struct X32 {
  x: array<vec4f, 8>,
  sum: vec2f,
  square: f32,
}

var<private> part: u32;  // of this lane

// All lanes take every chunk, and compilers see that they do so together.
fn chunk_of(lane: u32) -> u32 {
  return 0u;
}

fn stage_x(first_token: u32, first_chunk: u32, thread: u32) {
  // Its number among the lanes, whatever threads a device puts into one subgroup.
  part = subgroupExclusiveAdd(1u) % SHARERS;
}

// A chunk of TOKENS tokens; the norm's weights are loaded once for all of them.
fn load_x(first_token: u32, chunk: u32) -> array<X32, 8> {
  let at = 8u * chunk + part;
  var g = mat2x4f(vec4f(1.0), vec4f(1.0));
  if NORM {
    g[0] = norm[at];
    if SHARERS == 4u {
      g[1] = norm[at + 4u];
    }
  }
  var xs: array<X32, 8>;
  xs[0] = load_token(first_token, at, g);
  if TOKENS > 1u {
    xs[1] = load_token(first_token + 1u, at, g);
    xs[2] = load_token(first_token + 2u, at, g);
    xs[3] = load_token(first_token + 3u, at, g);
  }
  if TOKENS > 4u {
    xs[4] = load_token(first_token + 4u, at, g);
    xs[5] = load_token(first_token + 5u, at, g);
    xs[6] = load_token(first_token + 6u, at, g);
    xs[7] = load_token(first_token + 7u, at, g);
  }
  return xs;
}

// Past the last token, that again.
fn load_token(token: u32, at: u32, g: mat2x4f) -> X32 {
  let x_at = (step.first_token + min(token, step.n_tokens - 1u)) * params.x_stride + at;
  var a = x[x_at];
  var square = dot(a, a);
  a *= g[0];
  let first = array<vec4f, 4>(
    subgroupBroadcast(a, 0u), subgroupBroadcast(a, 1u), subgroupBroadcast(a, 2u), subgroupBroadcast(a, 3u));
  var second: array<vec4f, 4>;
  if SHARERS == 4u {
    var b = x[x_at + 4u];
    square += dot(b, b);
    b *= g[1];
    second = array<vec4f, 4>(
      subgroupBroadcast(b, 0u), subgroupBroadcast(b, 1u), subgroupBroadcast(b, 2u), subgroupBroadcast(b, 3u));
  } else {
    second = array<vec4f, 4>(
      subgroupBroadcast(a, 4u), subgroupBroadcast(a, 5u), subgroupBroadcast(a, 6u), subgroupBroadcast(a, 7u));
  }
  let ones = vec4f(1.0);
  return X32(
    array<vec4f, 8>(first[0], first[1], first[2], first[3], second[0], second[1], second[2], second[3]),
    vec2f(dot(first[0] + first[1] + first[2] + first[3], ones), dot(second[0] + second[1] + second[2] + second[3], ones)),
    square);
}

fn row_dot(w: Weights32, v: X32) -> f32 {
  let sums = vec2f(
    dot(w.q[0], v.x[0]) + dot(w.q[1], v.x[1]) + dot(w.q[2], v.x[2]) + dot(w.q[3], v.x[3]),
    dot(w.q[4], v.x[4]) + dot(w.q[5], v.x[5]) + dot(w.q[6], v.x[6]) + dot(w.q[7], v.x[7]));
  return dot(w.scale, sums) + dot(w.offset, v.sum);
}

// A thread's rows are its own.
fn in_subgroup(y: mat4x2f) -> mat4x2f {
  return y;
}

// The sum over the parts.
fn in_subgroup4(v: vec4f) -> vec4f {
  var sum = subgroupBroadcast(v, 0u) + subgroupBroadcast(v, 1u) + subgroupBroadcast(v, 2u) + subgroupBroadcast(v, 3u);
  if SHARERS == 8u {
    sum += subgroupBroadcast(v, 4u) + subgroupBroadcast(v, 5u) + subgroupBroadcast(v, 6u) + subgroupBroadcast(v, 7u);
  }
  return sum;
}
