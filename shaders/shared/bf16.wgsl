// BF16, quants only: [n_rows, n_chunks, 4] vec4 of eight bf16 each.
fn weights16(row: u32, half: u32) -> Weights16 {
  let at = row * params.n_chunks * 4u + half * 2u;
  let a = quants[at];
  let b = quants[at + 1u];
  let q = array<vec4f, 4>(widened4(a.xy), widened4(a.zw), widened4(b.xy), widened4(b.zw));
  return Weights16(q, 1.0, 0.0);
}

// A bf16 is the upper half of an f32.
fn widened4(words: vec2<u32>) -> vec4f {
  return bitcast<vec4f>(vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}
