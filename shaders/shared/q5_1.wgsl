// Q5_1: w = d·q + m. quants [n_rows, n_chunks] vec4 of the low four bits; aux [n_rows, n_chunks, 2]: the
// fifth bits, then f16 d and m.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let at = row * params.n_chunks + chunk;
  let q = joined32(nibbles32(quants[at]), bits32(aux[2u * at]), 16u);
  let d_m = unpack2x16float(aux[2u * at + 1u]);
  return Weights32(q, d_m.xx, d_m.yy);
}
