// Q3_K: w = d·(sc − 32)·(q − 4). quants, for every block of 8 chunks, 4 vec4 of low two bits, a word a half
// chunk; aux twelve words a block: a word of third bits a chunk, the 12 bytes of 6-bit scales as in the
// file, then d as f32, since it is often too small for a normal f16.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let block = row * (params.n_chunks >> 3u) + (chunk >> 3u);
  let c = chunk & 7u;
  let crumbs = quants[block * 4u + (c >> 1u)];
  let low = crumbs32(select(crumbs.xy, crumbs.zw, (c & 1u) == 1u));
  let s = scales(row, chunk);
  return Weights32(joined32(low, bits32(aux[block * 12u + c]), 4u), s[0], s[1]);
}

fn scales(row: u32, chunk: u32) -> mat2x2f {
  let base = (row * (params.n_chunks >> 3u) + (chunk >> 3u)) * 12u;
  let c = chunk & 7u;
  // Scale j = 2c, 2c + 1: four bits in byte j % 8, its half chosen by j / 8; two more in byte 8 + j % 4, at
  // 2·(j / 4).
  let low4 = aux[base + 8u + ((c & 3u) >> 1u)] >> (16u * (c & 1u) + 4u * (c >> 2u));
  let high2 = aux[base + 10u] >> (16u * (c & 1u) + 2u * (c >> 1u));
  let sc = (vec2<u32>(low4, low4 >> 8u) & vec2<u32>(15u)) | ((vec2<u32>(high2, high2 >> 8u) & vec2<u32>(3u)) << vec2<u32>(4u));
  let d = bitcast<f32>(aux[base + 11u]) * (vec2f(sc) - 32.0);
  return mat2x2f(d, -4.0 * d);
}

fn quants8(row: u32, chunk: u32, quarter: u32) -> Quants8 {
  let block = row * (params.n_chunks >> 3u) + (chunk >> 3u);
  let c = chunk & 7u;
  let low = quants[block * 4u + (c >> 1u)][2u * (c & 1u) + (quarter >> 1u)] >> (4u * (quarter & 1u));
  return joined8(crumbs8(low), bits8(aux[block * 12u + c] >> (8u * quarter)), 4u);
}
