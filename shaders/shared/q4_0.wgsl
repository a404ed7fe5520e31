// Q4_0: w = d·(q − 8). quants [n_rows, n_chunks] vec4; aux [n_rows, n_chunks / 2] words of two f16 d.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let words = quants[row * params.n_chunks + chunk];
  let s = scales(row, chunk);
  return Weights32(nibbles32(words), s[0], s[1]);
}

fn scales(row: u32, chunk: u32) -> mat2x2f {
  let d = half_of(aux[row * ((params.n_chunks + 1u) >> 1u) + (chunk >> 1u)], chunk & 1u);
  return mat2x2f(vec2f(d), vec2f(-8.0 * d));
}

fn quants8(row: u32, chunk: u32, quarter: u32) -> Quants8 {
  return nibbles8(quants[row * params.n_chunks + chunk][quarter]);
}
