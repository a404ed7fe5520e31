// Q4_K: w = d·sc·q − dmin·m. quants [n_rows, n_chunks] vec4; aux, for every block of 8 chunks, four words:
// the 12 bytes of 6-bit scales and minimums as in the file, then f16 d and dmin.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let at = row * params.n_chunks + chunk;
  let sc_m = scale_min((at >> 3u) * 4u, chunk & 7u);
  return Weights32(nibbles32(quants[at]), sc_m.xx, -sc_m.yy);
}
