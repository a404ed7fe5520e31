// Q8_0: w = d·q, q signed. quants [n_rows, n_chunks, 2] vec4; aux [n_rows, n_chunks / 2] words of two f16 d.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let at = (row * params.n_chunks + chunk) * 2u;
  let s = scales(row, chunk);
  return Weights32(signed32(quants[at], quants[at + 1u]), s[0], s[1]);
}

fn scales(row: u32, chunk: u32) -> mat2x2f {
  let d = half_of(aux[row * ((params.n_chunks + 1u) >> 1u) + (chunk >> 1u)], chunk & 1u);
  return mat2x2f(vec2f(d), vec2f(0.0));
}

fn quants8(row: u32, chunk: u32, quarter: u32) -> Quants8 {
  let at = (row * params.n_chunks + chunk) * 2u + (quarter >> 1u);
  let i = 2u * (quarter & 1u);
  return signed8(quants[at][i], quants[at][i + 1u]);
}
