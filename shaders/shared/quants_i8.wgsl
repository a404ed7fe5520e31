// Quants as signed bytes, four a word, for dot4I8Packed; every type's numbers fit. Its twin is quants_f32.wgsl.

// 32 numbers in column order.
alias Quants32 = array<u32, 8>;

// 4-bit numbers: a word holds eight in column order, the first four in its bytes' low halves.
fn nibbles32(words: vec4<u32>) -> Quants32 {
  let low = words & vec4<u32>(0x0f0f0f0fu);
  let high = (words >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu);
  return Quants32(low.x, high.x, low.y, high.y, low.z, high.z, low.w, high.w);
}

// 2-bit numbers, sixteen a word: numbers 4k to 4k + 3 are bits 2k and 2k + 1 of its four bytes.
fn crumbs32(words: vec2<u32>) -> Quants32 {
  let a = (vec4<u32>(words.x) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(0x03030303u);
  let b = (vec4<u32>(words.y) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(0x03030303u);
  return Quants32(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w);
}

// 1-bit numbers: the bits of a word. The product puts bit k of four at bit 8k.
fn bits32(word: u32) -> Quants32 {
  let a = (vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
  let b = (vec4<u32>(word) >> vec4<u32>(16u, 20u, 24u, 28u)) & vec4<u32>(15u);
  let bits_a = (a * 0x00204081u) & vec4<u32>(0x01010101u);
  let bits_b = (b * 0x00204081u) & vec4<u32>(0x01010101u);
  return Quants32(bits_a.x, bits_a.y, bits_a.z, bits_a.w, bits_b.x, bits_b.y, bits_b.z, bits_b.w);
}

// Signed bytes in column order.
fn signed32(a: vec4<u32>, b: vec4<u32>) -> Quants32 {
  return Quants32(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w);
}

// low + factor·high, number by number: no sum leaves its byte.
fn joined32(low: Quants32, high: Quants32, factor: u32) -> Quants32 {
  return Quants32(
    low[0] + factor * high[0], low[1] + factor * high[1], low[2] + factor * high[2], low[3] + factor * high[3],
    low[4] + factor * high[4], low[5] + factor * high[5], low[6] + factor * high[6], low[7] + factor * high[7]);
}
