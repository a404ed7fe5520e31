// Q4_K: w = d·sc·q − dmin·m. quants [n_rows, n_chunks] vec4; aux, for every block of 8 chunks, four words:
// the 12 bytes of 6-bit scales and minimums as in the file, then f16 d and dmin.
fn weights16(row: u32, half: u32) -> Weights16 {
  let chunk = half >> 1u;
  let at = row * params.n_chunks + chunk;
  let sc_m = scale_min((at >> 3u) * 4u, chunk & 7u);
  return Weights16(nibbles16(half_words(quants[at], half)), sc_m.x, -sc_m.y);
}
