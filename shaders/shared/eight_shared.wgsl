// Eight numbers that all threads of attention need: lanes share the reading of them.

// Of a row of q, from vec4 `at` on.
fn q8(at: u32) -> mat2x4f {
  var own = vec2f(q_tile[at + lane_part / 4u][lane_part % 4u], 0.0);
  if SHARERS == 4u {
    own.y = q_tile[at + 1u][lane_part];
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
