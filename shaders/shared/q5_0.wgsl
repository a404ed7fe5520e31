// Q5_0: w = d·(q − 16). quants [n_rows, n_chunks] vec4 of the low four bits; aux, for every two chunks,
// three words: the fifth bits of either chunk, then two f16 d.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let low = nibbles32(quants[row * params.n_chunks + chunk]);
  let at = (row * ((params.n_chunks + 1u) >> 1u) + (chunk >> 1u)) * 3u;
  let high = bits32(aux[at + (chunk & 1u)]);
  let d = half_of(aux[at + 2u], chunk & 1u);
  return Weights32(joined32(low, high, 16u), vec2f(d), vec2f(-16.0 * d));
}
