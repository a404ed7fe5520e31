// Quants as signed bytes, four a word, for dot4I8Packed; every type's numbers fit. Its twin is quants_f32.wgsl.

// 8 and 32 numbers in column order.
alias Quants8 = vec2<u32>;
alias Quants32 = array<u32, 8>;

// 4-bit numbers: the low halves of a word's bytes, then the high ones.
fn nibbles8(word: u32) -> Quants8 {
  return Quants8(word, word >> 4u) & Quants8(0x0f0f0f0fu);
}

// 2-bit numbers: the lowest bits of a word's bytes, then the next.
fn crumbs8(word: u32) -> Quants8 {
  return Quants8(word, word >> 2u) & Quants8(0x03030303u);
}

// 1-bit numbers: the eight lowest bits of a word. The product puts bit k of four at bit 8k.
fn bits8(word: u32) -> Quants8 {
  return ((Quants8(word, word >> 4u) & Quants8(15u)) * 0x00204081u) & Quants8(0x01010101u);
}

// The signed bytes of two words.
fn signed8(a: u32, b: u32) -> Quants8 {
  return Quants8(a, b);
}

// low + factor·high, number by number: no sum leaves its byte.
fn joined8(low: Quants8, high: Quants8, factor: u32) -> Quants8 {
  return low + factor * high;
}
