// Quants as numbers: what dtypes' files are written in where a product multiplies f32. Its twin is quants_i8.wgsl.

// 8 and 32 numbers in column order.
alias Quants8 = mat2x4f;
alias Quants32 = array<vec4f, 8>;

const BYTE_SHIFTS = vec4<u32>(0u, 8u, 16u, 24u);

// Four bytes of a word, masked, as numbers.
fn bytes4(word: u32, mask: u32) -> vec4f {
  return vec4f((vec4<u32>(word) >> BYTE_SHIFTS) & vec4<u32>(mask));
}

// 4-bit numbers: the low halves of a word's bytes, then the high ones.
fn nibbles8(word: u32) -> Quants8 {
  return Quants8(bytes4(word, 15u), bytes4(word >> 4u, 15u));
}

// 2-bit numbers: the lowest bits of a word's bytes, then the next.
fn crumbs8(word: u32) -> Quants8 {
  return Quants8(bytes4(word, 3u), bytes4(word >> 2u, 3u));
}

// 1-bit numbers: the eight lowest bits of a word.
fn bits8(word: u32) -> Quants8 {
  return Quants8(bits4(word), bits4(word >> 4u));
}

fn bits4(word: u32) -> vec4f {
  return vec4f((vec4<u32>(word) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u));
}

// The signed bytes of two words.
fn signed8(a: u32, b: u32) -> Quants8 {
  return Quants8(signed4(a), signed4(b));
}

// Four signed bytes: shifted to the top of a word, then back with the sign.
fn signed4(word: u32) -> vec4f {
  return vec4f(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// low + factor·high, number by number.
fn joined8(low: Quants8, high: Quants8, factor: u32) -> Quants8 {
  let f = f32(factor);
  return Quants8(low[0] + f * high[0], low[1] + f * high[1]);
}
