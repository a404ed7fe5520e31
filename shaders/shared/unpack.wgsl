// Helpers that turn packed words into f32. Every dtype's file gives
//
//   fn weights16(row: u32, half: u32) -> Weights16
//
// for the 16 weights w = scale·q + offset of a row that begin at column 16·half: two halves a chunk.

struct Weights16 {
  q: array<vec4f, 4>,
  scale: f32,
  offset: f32,
}

const BYTE_SHIFTS = vec4<u32>(0u, 8u, 16u, 24u);

// The f16 in the low (i = 0) or high (i = 1) half of a word.
fn half_of(word: u32, i: u32) -> f32 {
  return unpack2x16float(word >> (16u * i)).x;
}

// Byte i of an array of words.
fn byte_of(word: u32, i: u32) -> u32 {
  return (word >> (8u * i)) & 0xffu;
}

// The two words of four that hold a half chunk.
fn half_words(words: vec4<u32>, half: u32) -> vec2<u32> {
  return select(words.xy, words.zw, (half & 1u) == 1u);
}

// Four bytes of a word, masked, as numbers.
fn bytes4(word: u32, mask: u32) -> vec4f {
  return vec4f((vec4<u32>(word) >> BYTE_SHIFTS) & vec4<u32>(mask));
}

// Sixteen 4-bit numbers: a word holds eight in column order, the first four in its bytes' low halves.
fn nibbles16(words: vec2<u32>) -> array<vec4f, 4> {
  return array<vec4f, 4>(
    bytes4(words.x, 15u), bytes4(words.x >> 4u, 15u), bytes4(words.y, 15u), bytes4(words.y >> 4u, 15u));
}

// Sixteen 2-bit numbers of a word: numbers 4k to 4k + 3 are bits 2k and 2k + 1 of its four bytes.
fn crumbs16(word: u32) -> array<vec4f, 4> {
  return array<vec4f, 4>(
    bytes4(word, 3u), bytes4(word >> 2u, 3u), bytes4(word >> 4u, 3u), bytes4(word >> 6u, 3u));
}

// Sixteen 1-bit numbers: bit i of the low 16.
fn bits16(word: u32) -> array<vec4f, 4> {
  return array<vec4f, 4>(bits4(word), bits4(word >> 4u), bits4(word >> 8u), bits4(word >> 12u));
}

fn bits4(word: u32) -> vec4f {
  return vec4f((vec4<u32>(word) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u));
}

// low + factor·high, number by number.
fn joined16(low: array<vec4f, 4>, high: array<vec4f, 4>, factor: f32) -> array<vec4f, 4> {
  return array<vec4f, 4>(
    low[0] + factor * high[0], low[1] + factor * high[1],
    low[2] + factor * high[2], low[3] + factor * high[3]);
}
