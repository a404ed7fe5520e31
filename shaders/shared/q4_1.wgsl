// Q4_1: w = d·q + m. quants [n_rows, n_chunks] vec4; aux [n_rows, n_chunks] words of f16 d and m.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let at = row * params.n_chunks + chunk;
  let d_m = unpack2x16float(aux[at]);
  return Weights32(nibbles32(quants[at]), d_m.xx, d_m.yy);
}
