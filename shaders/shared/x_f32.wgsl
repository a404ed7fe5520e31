// The x of matvec in f32, straight from memory.

// Chunks that are staged at once: all, as there is nothing to stage.
const X_CHUNKS = 0x40000000u;

// A chunk of a token's x: weighed by the norm, the sums of either half, and the sum of all squares before.
struct X32 {
  x: array<vec4f, 8>,
  sum: vec2f,
  square: f32,
}

fn stage_x(first_token: u32, first_chunk: u32, thread: u32) {}

// A chunk of TOKENS tokens; the norm's weights are loaded once for all of them.
fn load_x(first_token: u32, chunk: u32) -> array<X32, 4> {
  let at = 8u * chunk;
  var g = array<vec4f, 8>();
  if NORM {
    g = array<vec4f, 8>(
      norm(at), norm(at + 1u), norm(at + 2u), norm(at + 3u),
      norm(at + 4u), norm(at + 5u), norm(at + 6u), norm(at + 7u));
  }
  var xs: array<X32, 4>;
  xs[0] = load_token(first_token, at, g);
  if TOKENS > 1u {
    xs[1] = load_token(first_token + 1u, at, g);
    xs[2] = load_token(first_token + 2u, at, g);
    xs[3] = load_token(first_token + 3u, at, g);
  }
  return xs;
}

// Past the last token, that again.
fn load_token(token: u32, at: u32, g: array<vec4f, 8>) -> X32 {
  let x_at = (step.first_token + min(token, step.n_tokens - 1u)) * params.x_stride + at;
  var v = array<vec4f, 8>(
    x[x_at], x[x_at + 1u], x[x_at + 2u], x[x_at + 3u], x[x_at + 4u], x[x_at + 5u], x[x_at + 6u], x[x_at + 7u]);
  var square = 0.0;
  if NORM {
    square = dot(v[0], v[0]) + dot(v[1], v[1]) + dot(v[2], v[2]) + dot(v[3], v[3])
      + dot(v[4], v[4]) + dot(v[5], v[5]) + dot(v[6], v[6]) + dot(v[7], v[7]);
    v = array<vec4f, 8>(
      v[0] * g[0], v[1] * g[1], v[2] * g[2], v[3] * g[3], v[4] * g[4], v[5] * g[5], v[6] * g[6], v[7] * g[7]);
  }
  let ones = vec4f(1.0);
  return X32(v, vec2f(dot(v[0] + v[1] + v[2] + v[3], ones), dot(v[4] + v[5] + v[6] + v[7], ones)), square);
}

fn row_dot(w: Weights32, v: X32) -> f32 {
  let sums = vec2f(
    dot(w.q[0], v.x[0]) + dot(w.q[1], v.x[1]) + dot(w.q[2], v.x[2]) + dot(w.q[3], v.x[3]),
    dot(w.q[4], v.x[4]) + dot(w.q[5], v.x[5]) + dot(w.q[6], v.x[6]) + dot(w.q[7], v.x[7]));
  return dot(w.scale, sums) + dot(w.offset, v.sum);
}
