// Quants as numbers: what dtypes' files are written in where a product multiplies f32. Its twin is quants_i8.wgsl.

// 32 numbers.
alias Quants32 = array<vec4f, 8>;

const BYTE_SHIFTS = vec4<u32>(0u, 8u, 16u, 24u);

// Four bytes of a word, masked, as numbers.
fn bytes4(word: u32, mask: u32) -> vec4f {
  return vec4f((vec4<u32>(word) >> BYTE_SHIFTS) & vec4<u32>(mask));
}

// 4-bit numbers: a word holds eight in column order, the first four in its bytes' low halves.
fn nibbles32(words: vec4<u32>) -> Quants32 {
  return Quants32(
    bytes4(words.x, 15u), bytes4(words.x >> 4u, 15u), bytes4(words.y, 15u), bytes4(words.y >> 4u, 15u),
    bytes4(words.z, 15u), bytes4(words.z >> 4u, 15u), bytes4(words.w, 15u), bytes4(words.w >> 4u, 15u));
}

// 2-bit numbers, sixteen a word: numbers 4k to 4k + 3 are bits 2k and 2k + 1 of its four bytes.
fn crumbs32(words: vec2<u32>) -> Quants32 {
  return Quants32(
    bytes4(words.x, 3u), bytes4(words.x >> 2u, 3u), bytes4(words.x >> 4u, 3u), bytes4(words.x >> 6u, 3u),
    bytes4(words.y, 3u), bytes4(words.y >> 2u, 3u), bytes4(words.y >> 4u, 3u), bytes4(words.y >> 6u, 3u));
}

// 1-bit numbers: the bits of a word.
fn bits32(word: u32) -> Quants32 {
  return Quants32(
    bits4(word), bits4(word >> 4u), bits4(word >> 8u), bits4(word >> 12u),
    bits4(word >> 16u), bits4(word >> 20u), bits4(word >> 24u), bits4(word >> 28u));
}

fn bits4(word: u32) -> vec4f {
  return vec4f((vec4<u32>(word) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u));
}

// Signed bytes in column order.
fn signed32(a: vec4<u32>, b: vec4<u32>) -> Quants32 {
  return Quants32(
    signed4(a.x), signed4(a.y), signed4(a.z), signed4(a.w), signed4(b.x), signed4(b.y), signed4(b.z), signed4(b.w));
}

// Four signed bytes: shifted to the top of a word, then back with the sign.
fn signed4(word: u32) -> vec4f {
  return vec4f(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// low + factor·high, number by number.
fn joined32(low: Quants32, high: Quants32, factor: u32) -> Quants32 {
  let f = f32(factor);
  return Quants32(
    low[0] + f * high[0], low[1] + f * high[1], low[2] + f * high[2], low[3] + f * high[3],
    low[4] + f * high[4], low[5] + f * high[5], low[6] + f * high[6], low[7] + f * high[7]);
}
