// Q4_1: w = d·q + m. quants [n_rows, n_chunks] vec4; aux [n_rows, n_chunks] words of f16 d and m.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let at = row * params.n_chunks + chunk;
  let s = scales(row, chunk);
  return Weights32(nibbles32(quants[at]), s[0], s[1]);
}

fn scales(row: u32, chunk: u32) -> mat2x2f {
  let d_m = unpack2x16float(aux[row * params.n_chunks + chunk]);
  return mat2x2f(d_m.xx, d_m.yy);
}

fn quants8(row: u32, chunk: u32, quarter: u32) -> Quants8 {
  return nibbles8(quants[row * params.n_chunks + chunk][quarter]);
}
