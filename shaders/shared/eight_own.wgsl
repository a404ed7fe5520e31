// Eight numbers that all threads of attention need: each reads them by itself, those of q from workgroup memory.

override Q_VECS: u32 = 256u;  // ROWS · head_vecs

var<workgroup> q_tile: array<vec4f, Q_VECS>;  // [ROWS, head_vecs]

fn stage_q(kv_head: u32, first_row: u32, n_rows: u32, thread: u32) {
  for (var i = thread; i < Q_VECS; i += TILE) {
    let row = min(first_row + i / params.head_vecs, n_rows - 1u);
    let dim = 4u * (i % params.head_vecs);
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
  let at = row * params.head_vecs + 2u * v;
  return mat2x4f(q_tile[at], q_tile[at + 1u]);
}

// Of the probabilities, from number `at` on.
fn p8(at: u32) -> mat2x4f {
  return mat2x4f(
    p_tile[at], p_tile[at + 1u], p_tile[at + 2u], p_tile[at + 3u],
    p_tile[at + 4u], p_tile[at + 5u], p_tile[at + 6u], p_tile[at + 7u]);
}
