// BF16, quants only: [n_rows, n_chunks, 4] vec4 of eight bf16 each.
fn quants8(row: u32, chunk: u32, quarter: u32) -> Quants8 {
  let words = quants[(row * params.n_chunks + chunk) * 4u + quarter];
  return Quants8(widened4(words.xy), widened4(words.zw));
}

// A bf16 is the upper half of an f32.
fn widened4(words: vec2<u32>) -> vec4f {
  return bitcast<vec4f>(vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}
