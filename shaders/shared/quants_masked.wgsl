// Quants as numbers, as quants_f32.wgsl has them, for devices that compute on the CPU: some shift lane by lane, and
// turn a u32 into a number in many steps. What a mask leaves of an i32 is a multiple of a power of two, by whose
// inverse it is multiplied.

// 8 and 32 numbers in column order.
alias Quants8 = mat2x4f;
alias Quants32 = array<vec4f, 8>;

const BYTE_UNITS = vec4f(0x1p0, 0x1p-8, 0x1p-16, 0x1p-24);

fn masked4(word: u32, masks: vec4<u32>) -> vec4f {
  return vec4f(bitcast<vec4<i32>>(vec4<u32>(word) & masks));
}

// 4-bit numbers: the low halves of a word's bytes, then the high ones, of which the last has the sign bit.
fn nibbles8(word: u32) -> Quants8 {
  let high = vec4f(masked4(word, vec4<u32>(0xf0u, 0xf000u, 0xf00000u, 0u)).xyz, f32(word & 0xf0000000u));
  return Quants8(
    BYTE_UNITS * masked4(word, vec4<u32>(0xfu, 0xf00u, 0xf0000u, 0xf000000u)), 0x1p-4 * BYTE_UNITS * high);
}

// 2-bit numbers: the lowest bits of a word's bytes, then the next.
fn crumbs8(word: u32) -> Quants8 {
  return Quants8(
    BYTE_UNITS * masked4(word, vec4<u32>(0x3u, 0x300u, 0x30000u, 0x3000000u)),
    0x1p-2 * BYTE_UNITS * masked4(word, vec4<u32>(0xcu, 0xc00u, 0xc0000u, 0xc000000u)));
}

// 1-bit numbers: the eight lowest bits of a word.
fn bits8(word: u32) -> Quants8 {
  return Quants8(
    vec4f(1.0, 0.5, 0.25, 0.125) * masked4(word, vec4<u32>(1u, 2u, 4u, 8u)),
    0x1p-4 * vec4f(1.0, 0.5, 0.25, 0.125) * masked4(word, vec4<u32>(16u, 32u, 64u, 128u)));
}

// The signed bytes of two words.
fn signed8(a: u32, b: u32) -> Quants8 {
  return Quants8(signed4(a), signed4(b));
}

// Four signed bytes. The last has the word's sign; the others are counted from -128 up.
fn signed4(word: u32) -> vec4f {
  let bytes = masked4(word ^ 0x808080u, vec4<u32>(0xffu, 0xff00u, 0xff0000u, 0xff000000u));
  return BYTE_UNITS * bytes - vec4f(128.0, 128.0, 128.0, 0.0);
}

// low + factor·high, number by number.
fn joined8(low: Quants8, high: Quants8, factor: u32) -> Quants8 {
  let f = f32(factor);
  return Quants8(low[0] + f * high[0], low[1] + f * high[1]);
}
