// Q2_K: w = d·sc·q − dmin·m. quants, for every block of 8 chunks, 4 vec4, a word a half chunk; aux five
// words a block: sixteen bytes of scale (low half) and minimum (high half), one a half chunk, then f16 d
// and dmin.
fn weights16(row: u32, half: u32) -> Weights16 {
  let block = row * (params.n_chunks >> 3u) + (half >> 4u);
  let j = half & 15u;
  let q = crumbs16(quants[block * 4u + (j >> 2u)][j & 3u]);
  let sc_m = byte_of(aux[block * 5u + (j >> 2u)], j & 3u);
  let scaled = unpack2x16float(aux[block * 5u + 4u]) * vec2f(f32(sc_m & 15u), f32(sc_m >> 4u));
  return Weights16(q, scaled.x, -scaled.y);
}
