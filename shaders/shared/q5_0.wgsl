// Q5_0: w = d·(q − 16). quants [n_rows, n_chunks] vec4 of the low four bits; aux, for every two chunks,
// three words: the fifth bits of either chunk, then two f16 d.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let low = nibbles32(quants[row * params.n_chunks + chunk]);
  let high = bits32(aux[aux_at(row, chunk) + (chunk & 1u)]);
  let s = scales(row, chunk);
  return Weights32(joined32(low, high, 16u), s[0], s[1]);
}

fn scales(row: u32, chunk: u32) -> mat2x2f {
  let d = half_of(aux[aux_at(row, chunk) + 2u], chunk & 1u);
  return mat2x2f(vec2f(d), vec2f(-16.0 * d));
}

fn quants8(row: u32, chunk: u32, quarter: u32) -> Quants8 {
  let low = nibbles8(quants[row * params.n_chunks + chunk][quarter]);
  return joined8(low, bits8(aux[aux_at(row, chunk) + (chunk & 1u)] >> (8u * quarter)), 16u);
}

fn aux_at(row: u32, chunk: u32) -> u32 {
  return (row * ((params.n_chunks + 1u) >> 1u) + (chunk >> 1u)) * 3u;
}
