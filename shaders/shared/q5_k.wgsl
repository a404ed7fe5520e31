// Q5_K: w = d·sc·q − dmin·m. quants [n_rows, n_chunks] vec4 of the low four bits; aux, for every block of
// 8 chunks, twelve words: the four of Q4_K, then one word of fifth bits a chunk.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let at = row * params.n_chunks + chunk;
  let base = (at >> 3u) * 12u;
  let q = joined32(nibbles32(quants[at]), bits32(aux[base + 4u + (chunk & 7u)]), 16u);
  let s = scales(row, chunk);
  return Weights32(q, s[0], s[1]);
}

fn scales(row: u32, chunk: u32) -> mat2x2f {
  let base = ((row * params.n_chunks + chunk) >> 3u) * 12u;
  let sc_m = scale_min(vec4<u32>(aux[base], aux[base + 1u], aux[base + 2u], aux[base + 3u]), chunk & 7u);
  return mat2x2f(sc_m.xx, -sc_m.yy);
}

fn quants8(row: u32, chunk: u32, quarter: u32) -> Quants8 {
  let at = row * params.n_chunks + chunk;
  let high = bits8(aux[(at >> 3u) * 12u + 4u + (chunk & 7u)] >> (8u * quarter));
  return joined8(nibbles8(quants[at][quarter]), high, 16u);
}
