// BF16, quants only: [n_rows, n_chunks, 4] vec4 of eight bf16 each.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let at = (row * params.n_chunks + chunk) * 4u;
  let a = quants[at];
  let b = quants[at + 1u];
  let c = quants[at + 2u];
  let d = quants[at + 3u];
  let q = array<vec4f, 8>(
    widened4(a.xy), widened4(a.zw), widened4(b.xy), widened4(b.zw),
    widened4(c.xy), widened4(c.zw), widened4(d.xy), widened4(d.zw));
  return Weights32(q, vec2f(1.0), vec2f(0.0));
}

// A bf16 is the upper half of an f32.
fn widened4(words: vec2<u32>) -> vec4f {
  return bitcast<vec4f>(vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}
