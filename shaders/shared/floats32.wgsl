// What types without scales have in common.

fn weights32(row: u32, chunk: u32) -> Weights32 {
  let q = all32(quants8(row, chunk, 0u), quants8(row, chunk, 1u), quants8(row, chunk, 2u), quants8(row, chunk, 3u));
  return Weights32(q, vec2f(1.0), vec2f(0.0));
}

fn scales(row: u32, chunk: u32) -> mat2x2f {
  return mat2x2f(vec2f(1.0), vec2f(0.0));
}
