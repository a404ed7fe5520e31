// F16, quants only: [n_rows, n_chunks, 4] vec4 of eight f16 each.
fn quants8(row: u32, chunk: u32, quarter: u32) -> Quants8 {
  let words = quants[(row * params.n_chunks + chunk) * 4u + quarter];
  return Quants8(halves4(words.xy), halves4(words.zw));
}

fn halves4(words: vec2<u32>) -> vec4f {
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}
