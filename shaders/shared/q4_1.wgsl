// Q4_1: w = d·q + m. quants [n_rows, n_chunks] vec4; aux [n_rows, n_chunks] words of f16 d and m.
fn weights16(row: u32, half: u32) -> Weights16 {
  let at = row * params.n_chunks + (half >> 1u);
  let d_m = unpack2x16float(aux[at]);
  return Weights16(nibbles16(half_words(quants[at], half)), d_m.x, d_m.y);
}
