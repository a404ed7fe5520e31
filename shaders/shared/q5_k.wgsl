// Q5_K: w = d·sc·q − dmin·m. quants [n_rows, n_chunks] vec4 of the low four bits; aux, for every block of
// 8 chunks, twelve words: the four of Q4_K, then one word of fifth bits a chunk.
fn weights16(row: u32, half: u32) -> Weights16 {
  let chunk = half >> 1u;
  let at = row * params.n_chunks + chunk;
  let base = (at >> 3u) * 12u;
  let low = nibbles16(half_words(quants[at], half));
  let high = bits16(aux[base + 4u + (chunk & 7u)] >> (16u * (half & 1u)));
  let sc_m = scale_min(base, chunk & 7u);
  return Weights16(joined16(low, high, 16.0), sc_m.x, -sc_m.y);
}
