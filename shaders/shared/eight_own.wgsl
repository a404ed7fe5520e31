// Eight numbers that all threads of attention need: each reads them by itself.

fn begin8() {}

// Of a row of q, from vec4 `at` on.
fn q8(at: u32) -> mat2x4f {
  return mat2x4f(q_tile[at], q_tile[at + 1u]);
}

// Of the probabilities, from number `at` on.
fn p8(at: u32) -> mat2x4f {
  return mat2x4f(
    p_tile[at], p_tile[at + 1u], p_tile[at + 2u], p_tile[at + 3u],
    p_tile[at + 4u], p_tile[at + 5u], p_tile[at + 6u], p_tile[at + 7u]);
}
