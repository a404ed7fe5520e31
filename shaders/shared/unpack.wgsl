// What a dtype's file gives, for the 32 weights of a row that begin at column 32·chunk, w = scale·q + offset, where
// the first sixteen and the last sixteen each have their scale and offset:
//
//   fn weights32(row: u32, chunk: u32) -> Weights32                 all of them
//   fn scales(row: u32, chunk: u32) -> mat2x2f                      the scales of the halves, then the offsets
//   fn quants8(row: u32, chunk: u32, quarter: u32) -> Quants8       the q of eight
//
// Devices that load 16 bytes at once take the first. q are f32, or bytes: see quants_f32.wgsl and quants_i8.wgsl.

struct Weights32 {
  q: Quants32,
  scale: vec2f,
  offset: vec2f,
}

// The f16 in the low (i = 0) or high (i = 1) half of a word.
fn half_of(word: u32, i: u32) -> f32 {
  return unpack2x16float(word >> (16u * i)).x;
}

// Byte i of a word.
fn byte_of(word: u32, i: u32) -> u32 {
  return (word >> (8u * i)) & 0xffu;
}

fn all32(a: Quants8, b: Quants8, c: Quants8, d: Quants8) -> Quants32 {
  return Quants32(a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]);
}

// 4-bit numbers, eight a word.
fn nibbles32(words: vec4<u32>) -> Quants32 {
  return all32(nibbles8(words.x), nibbles8(words.y), nibbles8(words.z), nibbles8(words.w));
}

// 2-bit numbers, sixteen a word: numbers 4k to 4k + 3 are bits 2k and 2k + 1 of its four bytes.
fn crumbs32(words: vec2<u32>) -> Quants32 {
  return all32(crumbs8(words.x), crumbs8(words.x >> 4u), crumbs8(words.y), crumbs8(words.y >> 4u));
}

// 1-bit numbers: the bits of a word.
fn bits32(word: u32) -> Quants32 {
  return all32(bits8(word), bits8(word >> 8u), bits8(word >> 16u), bits8(word >> 24u));
}

// The bytes of eight words.
fn signed32(a: vec4<u32>, b: vec4<u32>) -> Quants32 {
  return all32(signed8(a.x, a.y), signed8(a.z, a.w), signed8(b.x, b.y), signed8(b.z, b.w));
}

// low + factor·high, number by number.
fn joined32(low: Quants32, high: Quants32, factor: u32) -> Quants32 {
  return all32(
    joined8(Quants8(low[0], low[1]), Quants8(high[0], high[1]), factor),
    joined8(Quants8(low[2], low[3]), Quants8(high[2], high[3]), factor),
    joined8(Quants8(low[4], low[5]), Quants8(high[4], high[5]), factor),
    joined8(Quants8(low[6], low[7]), Quants8(high[6], high[7]), factor));
}
