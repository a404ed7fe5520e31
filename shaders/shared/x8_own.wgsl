// Eight of x for rows.wgsl: each thread loads them by itself.

// Weighed by the norm, and the sum of the squares before.
struct X8 {
  x: mat2x4f,
  square: f32,
}

alias G8 = mat2x4f;

fn begin8() {}

// Of the norm's weights, from vec4 `at` on.
fn norm8(at: u32) -> G8 {
  if params.has_norm != 0u {
    return G8(norm(at), norm(at + 1u));
  }
  return G8(vec4f(1.0), vec4f(1.0));
}

// From vec4 `at` of x on.
fn load8(at: u32, g: G8) -> X8 {
  let v = mat2x4f(x[at], x[at + 1u]);
  if params.has_norm != 0u {
    return X8(mat2x4f(v[0] * g[0], v[1] * g[1]), dot(v[0], v[0]) + dot(v[1], v[1]));
  }
  return X8(v, 0.0);
}

// A thread's sums are whole.
fn joined4(v: vec4f) -> vec4f {
  return v;
}
