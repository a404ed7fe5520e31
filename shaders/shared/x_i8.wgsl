// The x of matvec in signed bytes, for dot4I8Packed: a workgroup rounds a stretch of x into its memory, where
// all its rows find it.

const X_SLOTS = 128u;                       // chunks of tokens that are staged at once
override X_CHUNKS: u32 = X_SLOTS / TOKENS;  // of every token

// A chunk of a token's x: weighed by the norm and rounded, the sums of either half, and the sum of all squares
// before.
struct X32 {
  a: vec4<u32>,
  b: vec4<u32>,
  scale: vec2f,
  sum: vec2f,
  square: f32,
}

var<workgroup> x_quants: array<vec4<u32>, 256>;  // [X_SLOTS, 2]
var<workgroup> x_scales: array<vec4f, 128>;      // [X_SLOTS] scale and sum of either half
var<workgroup> x_squares: array<f32, 128>;       // [X_SLOTS]

fn stage_x(first_token: u32, first_chunk: u32, thread: u32) {
  workgroupBarrier();
  for (var slot = thread; slot < X_SLOTS; slot += THREADS) {
    let token = first_token + slot / X_CHUNKS;
    let chunk = first_chunk + slot % X_CHUNKS;
    if chunk < params.n_chunks {
      let at = 8u * chunk;
      let x_at = (step.first_token + min(token, step.n_tokens - 1u)) * params.x_stride + at;
      var v = array<vec4f, 8>(
        x[x_at], x[x_at + 1u], x[x_at + 2u], x[x_at + 3u], x[x_at + 4u], x[x_at + 5u], x[x_at + 6u], x[x_at + 7u]);
      if NORM {
        x_squares[slot] = dot(v[0], v[0]) + dot(v[1], v[1]) + dot(v[2], v[2]) + dot(v[3], v[3])
          + dot(v[4], v[4]) + dot(v[5], v[5]) + dot(v[6], v[6]) + dot(v[7], v[7]);
        v[0] *= norm(at);
        v[1] *= norm(at + 1u);
        v[2] *= norm(at + 2u);
        v[3] *= norm(at + 3u);
        v[4] *= norm(at + 4u);
        v[5] *= norm(at + 5u);
        v[6] *= norm(at + 6u);
        v[7] *= norm(at + 7u);
      }
      let a = round16(v[0], v[1], v[2], v[3]);
      let b = round16(v[4], v[5], v[6], v[7]);
      x_quants[2u * slot] = a.q;
      x_quants[2u * slot + 1u] = b.q;
      x_scales[slot] = vec4f(a.scale, b.scale, a.sum, b.sum);
    }
  }
  workgroupBarrier();
}

// A staged chunk of TOKENS tokens.
fn load_x(first_token: u32, chunk: u32) -> array<X32, 4> {
  let slot = chunk % X_CHUNKS;
  var xs: array<X32, 4>;
  xs[0] = load_slot(slot);
  if TOKENS > 1u {
    xs[1] = load_slot(slot + X_CHUNKS);
    xs[2] = load_slot(slot + 2u * X_CHUNKS);
    xs[3] = load_slot(slot + 3u * X_CHUNKS);
  }
  return xs;
}

fn load_slot(slot: u32) -> X32 {
  let scales = x_scales[slot];
  var square = 0.0;
  if NORM {
    square = x_squares[slot];
  }
  return X32(x_quants[2u * slot], x_quants[2u * slot + 1u], scales.xy, scales.zw, square);
}

fn row_dot(w: Weights32, v: X32) -> f32 {
  let first = dot4I8Packed(w.q[0], v.a.x) + dot4I8Packed(w.q[1], v.a.y)
    + dot4I8Packed(w.q[2], v.a.z) + dot4I8Packed(w.q[3], v.a.w);
  let second = dot4I8Packed(w.q[4], v.b.x) + dot4I8Packed(w.q[5], v.b.y)
    + dot4I8Packed(w.q[6], v.b.z) + dot4I8Packed(w.q[7], v.b.w);
  return dot(w.scale, v.scale * vec2f(f32(first), f32(second))) + dot(w.offset, v.sum);
}
