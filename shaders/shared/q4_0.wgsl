// Q4_0: w = d·(q − 8). quants [n_rows, n_chunks] vec4; aux [n_rows, n_chunks / 2] words of two f16 d.
fn weights16(row: u32, half: u32) -> Weights16 {
  let chunk = half >> 1u;
  let words = half_words(quants[row * params.n_chunks + chunk], half);
  let d = half_of(aux[row * ((params.n_chunks + 1u) >> 1u) + (chunk >> 1u)], chunk & 1u);
  return Weights16(nibbles16(words), d, -8.0 * d);
}
