// Q6_K: w = d·sc·(q − 32). quants, for every block of 8 chunks, 12 vec4: a vec4 of low four bits a chunk,
// then a vec4 of upper two bits for every two chunks; aux five words a block: sixteen signed 8-bit scales,
// one a half chunk, then f16 d.
fn weights16(row: u32, half: u32) -> Weights16 {
  let block = row * (params.n_chunks >> 3u) + (half >> 4u);
  let chunk = (half >> 1u) & 7u;
  let low = nibbles16(half_words(quants[block * 12u + chunk], half));
  let high = crumbs16(quants[block * 12u + 8u + (chunk >> 1u)][half & 3u]);
  let sc = bitcast<i32>(aux[block * 5u + ((half & 15u) >> 2u)] << (24u - 8u * (half & 3u))) >> 24u;
  let d = unpack2x16float(aux[block * 5u + 4u]).x * f32(sc);
  return Weights16(joined16(low, high, 16.0), d, -32.0 * d);
}
