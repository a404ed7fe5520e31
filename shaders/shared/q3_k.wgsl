// Q3_K: w = d·(sc − 32)·(q − 4). quants, for every block of 8 chunks, 4 vec4 of low two bits, a word a half
// chunk; aux twelve words a block: a word of third bits a chunk, the 12 bytes of 6-bit scales as in the
// file, then f16 d.
fn weights16(row: u32, half: u32) -> Weights16 {
  let block = row * (params.n_chunks >> 3u) + (half >> 4u);
  let j = half & 15u;
  let low = crumbs16(quants[block * 4u + (j >> 2u)][j & 3u]);
  let base = block * 12u;
  let high = bits16(aux[base + (j >> 1u)] >> (16u * (j & 1u)));
  // Scale j: four bits in byte j % 8, its half chosen by j / 8; two more in byte 8 + j % 4, at 2·(j / 4).
  let sc_low = (byte_of(aux[base + 8u + ((j & 7u) >> 2u)], j & 3u) >> (4u * (j >> 3u))) & 15u;
  let sc_high = (byte_of(aux[base + 10u], j & 3u) >> (2u * (j >> 2u))) & 3u;
  let d = unpack2x16float(aux[base + 11u]).x * (f32(sc_low | (sc_high << 4u)) - 32.0);
  return Weights16(joined16(low, high, 4.0), d, -4.0 * d);
}
