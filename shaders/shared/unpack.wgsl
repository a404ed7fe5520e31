// Helpers that turn packed words into f32. Every dtype's file gives
//
//   fn weights32(row: u32, chunk: u32) -> Weights32
//
// for the 32 weights of a row that begin at column 32·chunk: w = scale·q + offset, where the first sixteen
// and the last sixteen each have their scale and offset.

struct Weights32 {
  q: array<vec4f, 8>,
  scale: vec2f,
  offset: vec2f,
}

const BYTE_SHIFTS = vec4<u32>(0u, 8u, 16u, 24u);

// The f16 in the low (i = 0) or high (i = 1) half of a word.
fn half_of(word: u32, i: u32) -> f32 {
  return unpack2x16float(word >> (16u * i)).x;
}

// Byte i of a word.
fn byte_of(word: u32, i: u32) -> u32 {
  return (word >> (8u * i)) & 0xffu;
}

// Four bytes of a word, masked, as numbers.
fn bytes4(word: u32, mask: u32) -> vec4f {
  return vec4f((vec4<u32>(word) >> BYTE_SHIFTS) & vec4<u32>(mask));
}

// 4-bit numbers: a word holds eight in column order, the first four in its bytes' low halves.
fn nibbles32(words: vec4<u32>) -> array<vec4f, 8> {
  return array<vec4f, 8>(
    bytes4(words.x, 15u), bytes4(words.x >> 4u, 15u), bytes4(words.y, 15u), bytes4(words.y >> 4u, 15u),
    bytes4(words.z, 15u), bytes4(words.z >> 4u, 15u), bytes4(words.w, 15u), bytes4(words.w >> 4u, 15u));
}

// 2-bit numbers, sixteen a word: numbers 4k to 4k + 3 are bits 2k and 2k + 1 of its four bytes.
fn crumbs32(words: vec2<u32>) -> array<vec4f, 8> {
  return array<vec4f, 8>(
    bytes4(words.x, 3u), bytes4(words.x >> 2u, 3u), bytes4(words.x >> 4u, 3u), bytes4(words.x >> 6u, 3u),
    bytes4(words.y, 3u), bytes4(words.y >> 2u, 3u), bytes4(words.y >> 4u, 3u), bytes4(words.y >> 6u, 3u));
}

// 1-bit numbers: the bits of a word.
fn bits32(word: u32) -> array<vec4f, 8> {
  return array<vec4f, 8>(
    bits4(word), bits4(word >> 4u), bits4(word >> 8u), bits4(word >> 12u),
    bits4(word >> 16u), bits4(word >> 20u), bits4(word >> 24u), bits4(word >> 28u));
}

fn bits4(word: u32) -> vec4f {
  return vec4f((vec4<u32>(word) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u));
}

// low + factor·high, number by number.
fn joined32(low: array<vec4f, 8>, high: array<vec4f, 8>, factor: f32) -> array<vec4f, 8> {
  return array<vec4f, 8>(
    low[0] + factor * high[0], low[1] + factor * high[1], low[2] + factor * high[2], low[3] + factor * high[3],
    low[4] + factor * high[4], low[5] + factor * high[5], low[6] + factor * high[6], low[7] + factor * high[7]);
}
