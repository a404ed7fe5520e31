// Q5_1: w = d·q + m. quants [n_rows, n_chunks] vec4 of the low four bits; aux [n_rows, n_chunks, 2]: the
// fifth bits, then f16 d and m.
fn weights16(row: u32, half: u32) -> Weights16 {
  let at = row * params.n_chunks + (half >> 1u);
  let low = nibbles16(half_words(quants[at], half));
  let high = bits16(aux[2u * at] >> (16u * (half & 1u)));
  let d_m = unpack2x16float(aux[2u * at + 1u]);
  return Weights16(joined16(low, high, 16.0), d_m.x, d_m.y);
}
