// F16, quants only: [n_rows, n_chunks, 4] vec4 of eight f16 each.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let at = (row * params.n_chunks + chunk) * 4u;
  let a = quants[at];
  let b = quants[at + 1u];
  let c = quants[at + 2u];
  let d = quants[at + 3u];
  let q = array<vec4f, 8>(
    halves4(a.xy), halves4(a.zw), halves4(b.xy), halves4(b.zw),
    halves4(c.xy), halves4(c.zw), halves4(d.xy), halves4(d.zw));
  return Weights32(q, vec2f(1.0), vec2f(0.0));
}

fn halves4(words: vec2<u32>) -> vec4f {
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}
