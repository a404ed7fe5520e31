// What a dtype's file gives:
//
//   fn weights32(row: u32, chunk: u32) -> Weights32
//
// for the 32 weights of a row that begin at column 32·chunk: w = scale·q + offset, where the first sixteen
// and the last sixteen each have their scale and offset. q are f32, or bytes: see quants_f32.wgsl.

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
