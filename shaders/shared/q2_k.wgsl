// Q2_K: w = d·sc·q − dmin·m. quants, for every block of 8 chunks, 4 vec4, a word a half chunk; aux five
// words a block: sixteen bytes of scale (low half) and minimum (high half), one a half chunk, then f16 d
// and dmin.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let block = row * (params.n_chunks >> 3u) + (chunk >> 3u);
  let c = chunk & 7u;
  let crumbs = quants[block * 4u + (c >> 1u)];
  let s = scales(row, chunk);
  return Weights32(crumbs32(select(crumbs.xy, crumbs.zw, (c & 1u) == 1u)), s[0], s[1]);
}

fn scales(row: u32, chunk: u32) -> mat2x2f {
  let block = row * (params.n_chunks >> 3u) + (chunk >> 3u);
  let c = chunk & 7u;
  let bytes = aux[block * 5u + (c >> 1u)] >> (16u * (c & 1u));
  let sc = vec2f(vec2<u32>(bytes, bytes >> 8u) & vec2<u32>(15u));
  let m = vec2f((vec2<u32>(bytes, bytes >> 8u) >> vec2<u32>(4u)) & vec2<u32>(15u));
  let d_dmin = unpack2x16float(aux[block * 5u + 4u]);
  return mat2x2f(d_dmin.x * sc, -d_dmin.y * m);
}

fn quants8(row: u32, chunk: u32, quarter: u32) -> Quants8 {
  let block = row * (params.n_chunks >> 3u) + (chunk >> 3u);
  let c = chunk & 7u;
  return crumbs8(quants[block * 4u + (c >> 1u)][2u * (c & 1u) + (quarter >> 1u)] >> (4u * (quarter & 1u)));
}
