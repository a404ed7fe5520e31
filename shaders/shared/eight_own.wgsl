// Eight numbers that all threads of attention need: each reads them by itself, those of q from workgroup memory, in
// their order.

override Q_VECS: u32 = 256u;  // ROWS · head_vecs

var<workgroup> q_tile: array<vec4f, Q_VECS>;  // [ROWS, head_vecs]

fn stage_q(kv_head: u32, first_row: u32, n_rows: u32, thread: u32) {
  for (var i = thread; i < Q_VECS; i += WIDTH) {
    let row = min(first_row + i / HEAD_VECS, n_rows - 1u);
    let dim = 4u * (i % HEAD_VECS);
    let at = q_at(kv_head, row) + dim;
    var value = vec4f(0.0);
    for (var j = 0u; j < 4u; j++) {
      if dim + j < params.head_dim {
        value[j] = q[at + j];
      }
    }
    q_tile[i] = value;
  }
}

// The numbers 8v to 8v + 7 of a row of q.
fn q8(row: u32, v: u32) -> mat2x4f {
  let at = row * HEAD_VECS + 2u * v;
  return mat2x4f(q_tile[at], q_tile[at + 1u]);
}

// Of the probabilities, from number `at` on.
fn p8(at: u32) -> mat2x4f {
  return mat2x4f(
    p_tile[at], p_tile[at + 1u], p_tile[at + 2u], p_tile[at + 3u],
    p_tile[at + 4u], p_tile[at + 5u], p_tile[at + 6u], p_tile[at + 7u]);
}

// The keys of a position, 8v to 8v + 7 at number `at` of the cache.
fn k8(at: u32) -> mat2x4f {
  let words = k_cache[at];
  return mat2x4f(
    vec4f(unpack2x16float(words.x), unpack2x16float(words.y)),
    vec4f(unpack2x16float(words.z), unpack2x16float(words.w)));
}

// Which of eight the first four are, and less 4 the others.
fn order8() -> vec4<u32> {
  return vec4<u32>(0u, 1u, 2u, 3u);
}
