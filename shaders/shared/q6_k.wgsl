// Q6_K: w = d·sc·(q − 32). quants, for every block of 8 chunks, 12 vec4: a vec4 of low four bits a chunk,
// then a vec4 of upper two bits for every two chunks; aux five words a block: sixteen signed 8-bit scales,
// one a half chunk, then d as f32, since it is often too small for a normal f16.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let block = row * (params.n_chunks >> 3u) + (chunk >> 3u);
  let c = chunk & 7u;
  let low = nibbles32(quants[block * 12u + c]);
  let crumbs = quants[block * 12u + 8u + (c >> 1u)];
  let high = crumbs32(select(crumbs.xy, crumbs.zw, (c & 1u) == 1u));
  let s = scales(row, chunk);
  return Weights32(joined32(low, high, 16u), s[0], s[1]);
}

fn scales(row: u32, chunk: u32) -> mat2x2f {
  let block = row * (params.n_chunks >> 3u) + (chunk >> 3u);
  let c = chunk & 7u;
  let bytes = aux[block * 5u + (c >> 1u)] >> (16u * (c & 1u));
  let sc = vec2f(bitcast<vec2<i32>>(vec2<u32>(bytes << 24u, bytes << 16u)) >> vec2<u32>(24u));
  let d = bitcast<f32>(aux[block * 5u + 4u]) * sc;
  return mat2x2f(d, -32.0 * d);
}

fn quants8(row: u32, chunk: u32, quarter: u32) -> Quants8 {
  let block = row * (params.n_chunks >> 3u) + (chunk >> 3u);
  let c = chunk & 7u;
  let high = quants[block * 12u + 8u + (c >> 1u)][2u * (c & 1u) + (quarter >> 1u)] >> (4u * (quarter & 1u));
  return joined8(nibbles8(quants[block * 12u + c][quarter]), crumbs8(high), 16u);
}
