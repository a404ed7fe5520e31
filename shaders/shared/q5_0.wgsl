// Q5_0: w = d·(q − 16). quants [n_rows, n_chunks] vec4 of the low four bits; aux, for every two chunks,
// three words: the fifth bits of either chunk, then two f16 d.
fn weights16(row: u32, half: u32) -> Weights16 {
  let chunk = half >> 1u;
  let low = nibbles16(half_words(quants[row * params.n_chunks + chunk], half));
  let at = (row * ((params.n_chunks + 1u) >> 1u) + (chunk >> 1u)) * 3u;
  let high = bits16(aux[at + (chunk & 1u)] >> (16u * (half & 1u)));
  let d = half_of(aux[at + 2u], chunk & 1u);
  return Weights16(joined16(low, high, 16.0), d, -16.0 * d);
}
