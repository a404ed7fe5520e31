// Eight numbers that all threads of attention need: lanes share the reading of them. Those of q come from where they
// are: workgroup memory is no nearer on the devices that this is for, and takes long to compile.

var<workgroup> q_rows: array<u32, 8>;  // [ROWS] where a row begins in q

fn stage_q(kv_head: u32, first_row: u32, n_rows: u32, thread: u32) {
  begin8();
  if thread < ROWS {
    q_rows[thread] = q_at(kv_head, min(first_row + thread, n_rows - 1u));
  }
}

// The numbers 8v to 8v + 7 of a row of q, and zeros past the head's end.
fn q8(row: u32, v: u32) -> mat2x4f {
  let dim = 8u * v + lane_part;
  let at = q_rows[row] + dim;
  var own = vec2f(select(0.0, q[at], dim < params.head_dim), 0.0);
  if SHARERS == 4u {
    own.y = select(0.0, q[at + 4u], dim + 4u < params.head_dim);
  }
  return all8(own);
}

// Of the probabilities, from number `at` on.
fn p8(at: u32) -> mat2x4f {
  var own = vec2f(p_tile[at + lane_part], 0.0);
  if SHARERS == 4u {
    own.y = p_tile[at + 4u + lane_part];
  }
  return all8(own);
}
