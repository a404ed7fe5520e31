// Q4_K: w = d·sc·q − dmin·m. quants [n_rows, n_chunks] vec4; aux, for every block of 8 chunks, a vec4:
// the 12 bytes of 6-bit scales and minimums as in the file, then f16 d and dmin.
alias Aux = vec4<u32>;

fn weights32(row: u32, chunk: u32) -> Weights32 {
  let at = row * params.n_chunks + chunk;
  let s = scales(row, chunk);
  return Weights32(nibbles32(quants[at]), s[0], s[1]);
}

fn scales(row: u32, chunk: u32) -> mat2x2f {
  let sc_m = scale_min(aux[(row * params.n_chunks + chunk) >> 3u], chunk & 7u);
  return mat2x2f(sc_m.xx, -sc_m.yy);
}

fn quants8(row: u32, chunk: u32, quarter: u32) -> Quants8 {
  return nibbles8(quants[row * params.n_chunks + chunk][quarter]);
}
