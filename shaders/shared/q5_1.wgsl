// Q5_1: w = d·q + m. quants [n_rows, n_chunks] vec4 of the low four bits; aux [n_rows, n_chunks, 2]: the
// fifth bits, then f16 d and m.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let at = row * params.n_chunks + chunk;
  let q = joined32(nibbles32(quants[at]), bits32(aux[2u * at]), 16u);
  let s = scales(row, chunk);
  return Weights32(q, s[0], s[1]);
}

fn scales(row: u32, chunk: u32) -> mat2x2f {
  let d_m = unpack2x16float(aux[2u * (row * params.n_chunks + chunk) + 1u]);
  return mat2x2f(d_m.xx, d_m.yy);
}

fn quants8(row: u32, chunk: u32, quarter: u32) -> Quants8 {
  let at = row * params.n_chunks + chunk;
  return joined8(nibbles8(quants[at][quarter]), bits8(aux[2u * at] >> (8u * quarter)), 16u);
}
