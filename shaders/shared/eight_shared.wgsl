// Eight numbers that all threads of attention need: lanes share the reading of them, and take them in near8's order. Those of q come from where they
// are: workgroup memory is no nearer on the devices that this is for, and takes long to compile.

var<workgroup> q_rows: array<u32, 8>;  // [ROWS] where a row begins in q

fn stage_q(kv_head: u32, first_row: u32, n_rows: u32, thread: u32) {
  begin8();
  if thread < ROWS {
    q_rows[thread] = q_at(kv_head, min(first_row + thread, n_rows - 1u));
  }
}

// Of a row of q from 8v on, and zeros past the head's end.
fn q8(row: u32, v: u32) -> mat2x4f {
  let dim = 8u * v + lane_part;
  let at = q_rows[row] + dim;
  var own = vec2f(select(0.0, q[at], dim < params.head_dim), 0.0);
  if SHARERS == 4u {
    own.y = select(0.0, q[at + 4u], dim + 4u < params.head_dim);
  }
  return near8(own);
}

// Of the probabilities, from number `at` on.
fn p8(at: u32) -> mat2x4f {
  var own = vec2f(p_tile[at + lane_part], 0.0);
  if SHARERS == 4u {
    own.y = p_tile[at + 4u + lane_part];
  }
  return near8(own);
}

// The keys of a position from 8v on, at number `at` of the cache.
fn k8(at: u32) -> mat2x4f {
  if SHARERS == 4u {
    // A lane's own number and the one beside it are in one word, those below and across in the other.
    let word = lane_part / 2u;
    return mat2x4f(
      vec4f(halves(k_cache[at][word]), halves(k_cache[at][word ^ 1u])),
      vec4f(halves(k_cache[at][word + 2u]), halves(k_cache[at][(word ^ 1u) + 2u])));
  }
  let words = k_cache[at];
  return mat2x4f(
    vec4f(unpack2x16float(words.x), unpack2x16float(words.y)),
    vec4f(unpack2x16float(words.z), unpack2x16float(words.w)));
}

fn halves(word: u32) -> vec2f {
  let v = unpack2x16float(word);
  return select(v, v.yx, (lane_part & 1u) == 1u);
}
