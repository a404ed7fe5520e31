// y = W·x for several tokens in integers, for devices that compute on the CPU: as rows.wgsl, but x comes rounded to
// eight bits, two tokens in a word (see round.wgsl). So a multiplication by a quant is one for both, and half as many
// words are loaded, which is what takes those devices longest. For types of four bits, whose words lie as in Q4_0.
//
// SwiftShader keeps little in registers, and hardly anything through a loop: one sum is computed after another, and of
// half a chunk everything is written out. A lane takes the columns in an order of its own, so that it can use those that its
// neighbours have loaded as they come: its own, the one beside it, below it, and across.
//
// Grid: x, THREADS threads a workgroup; y, eight tokens.

override THREADS: u32 = 8u;

const PAIRS = 4u;
const TOKENS = 8u;

// What the sums in a word are counted from, lest the low one be negative: sixteen products are within 15·127·16 = 30480.
const ZERO = 32768u;

// The bits of 2^23, which leaves a small number that is added to it in a float's lowest bits.
const MAGIC = 0x4b000000u;

@group(0) @binding(2) var<storage, read> x: array<vec4<u32>>;    // [n_tokens / 8, columns]: tokens 2k, 2k + 1 in word k
@group(0) @binding(3) var<storage, read> x_scales: array<vec4f>; // [n_tokens / 8, n_chunks, 2 halves]: even, odd tokens

// Of eight columns of a chunk the first four, and the others, in the lane's order.
struct Eight {
  a: vec4<u32>,
  b: vec4<u32>,
}

// Eight columns of x, by words.
alias X8 = array<Eight, 4>;

// Of one row, or of x, for every token.
struct Sums {
  even: vec4f,
  odd: vec4f,
}

// Half a chunk of x.
struct Half {
  x: array<X8, 2>,
  sums: vec4<u32>,
  scale: Sums,
}

var<private> byte_masks: vec4<u32>;  // of a word's bytes in the lane's order
var<private> byte_units: vec4f;      // what their lowest bits stand for, inverted

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  begin8();
  let order = order8();
  byte_masks = vec4<u32>(0xfu) << (8u * order);
  byte_units = exp2(-8.0 * vec4f(order));
  let first_pair = (group.x * THREADS + thread) * PAIRS;
  let rows0 = rows_of(first_pair);
  let rows1 = rows_of(first_pair + 1u);
  let rows2 = rows_of(first_pair + 2u);
  let rows3 = rows_of(first_pair + 3u);
  var rows = array<u32, 8>(rows0.x, rows0.y, rows1.x, rows1.y, rows2.x, rows2.y, rows3.x, rows3.y);
  var y: array<Sums, 8>;
  for (var chunk = 0u; chunk < params.n_chunks; chunk++) {
    // In a loop after all: what unpacks scales takes long to compile.
    var s = array<mat2x2f, 8>();
    for (var r = 0u; r < 8u; r++) {
      s[r] = scales(rows[r], chunk);
    }
    for (var i = 0u; i < 2u; i++) {
      let half = load_half(2u * (group.y * params.n_chunks + chunk) + i);
      y[0] = with_half(y[0], rows[0], chunk, i, s[0], half);
      y[1] = with_half(y[1], rows[1], chunk, i, s[1], half);
      y[2] = with_half(y[2], rows[2], chunk, i, s[2], half);
      y[3] = with_half(y[3], rows[3], chunk, i, s[3], half);
      y[4] = with_half(y[4], rows[4], chunk, i, s[4], half);
      y[5] = with_half(y[5], rows[5], chunk, i, s[5], half);
      y[6] = with_half(y[6], rows[6], chunk, i, s[6], half);
      y[7] = with_half(y[7], rows[7], chunk, i, s[7], half);
    }
  }

  for (var k = 0u; k < TOKENS / 2u; k++) {
    let even = 2u * k * PAIRS;
    results[even] = vec2f(y[0].even[k], y[1].even[k]);
    results[even + 1u] = vec2f(y[2].even[k], y[3].even[k]);
    results[even + 2u] = vec2f(y[4].even[k], y[5].even[k]);
    results[even + 3u] = vec2f(y[6].even[k], y[7].even[k]);
    let odd = even + PAIRS;
    results[odd] = vec2f(y[0].odd[k], y[1].odd[k]);
    results[odd + 1u] = vec2f(y[2].odd[k], y[3].odd[k]);
    results[odd + 2u] = vec2f(y[4].odd[k], y[5].odd[k]);
    results[odd + 3u] = vec2f(y[6].odd[k], y[7].odd[k]);
  }
  store_rows(group.y * TOKENS, first_pair);
}

// The rows of a pair. Past the last pair, that again: lanes that share x all go along.
fn rows_of(pair: u32) -> vec2<u32> {
  return pair_rows(min(pair, params.n_pairs - 1u));
}

fn load_half(half: u32) -> Half {
  let x16 = array<X8, 2>(load8(16u * half), load8(16u * half + 8u));
  let sums = vec4<u32>(
    sum_of(x16[0][0]) + sum_of(x16[1][0]), sum_of(x16[0][1]) + sum_of(x16[1][1]),
    sum_of(x16[0][2]) + sum_of(x16[1][2]), sum_of(x16[0][3]) + sum_of(x16[1][3]));
  let scale = all8(vec2f(x_scales[2u * half][lane_part], x_scales[2u * half + 1u][lane_part]));
  return Half(x16, sums, Sums(scale[0], scale[1]));
}

// From column `at` on, of which a lane loads two.
fn load8(at: u32) -> X8 {
  let a = x[at + lane_part];
  let b = x[at + 4u + lane_part];
  return X8(
    Eight(four(a.x), four(b.x)), Eight(four(a.y), four(b.y)), Eight(four(a.z), four(b.z)), Eight(four(a.w), four(b.w)));
}

// A lane's own number and its neighbours'.
fn four(own: u32) -> vec4<u32> {
  return vec4<u32>(own, quadSwapX(own), quadSwapY(own), quadSwapDiagonal(own));
}

fn sum_of(x: Eight) -> u32 {
  return x.a.x + x.a.y + x.a.z + x.a.w + x.b.x + x.b.y + x.b.z + x.b.w;
}

// The sums of a row with the half chunk `i` of a chunk.
fn with_half(before: Sums, row: u32, chunk: u32, i: u32, s: mat2x2f, half: Half) -> Sums {
  let at = row * params.n_chunks + chunk;
  let q = array<Eight, 2>(nibbles(quants[at][2u * i]), nibbles(quants[at][2u * i + 1u]));
  let scale = select(s[0].x, s[0].y, i == 1u);
  let offset = select(s[1].x, s[1].y, i == 1u);
  let sums = vec4<u32>(
    product(q, half.x[0][0], half.x[1][0], half.sums.x), product(q, half.x[0][1], half.x[1][1], half.sums.y),
    product(q, half.x[0][2], half.x[1][2], half.sums.z), product(q, half.x[0][3], half.x[1][3], half.sums.w));
  var y = before;
  y.even += half.scale.even * (scale * low(sums) + offset * low(half.sums + ZERO));
  y.odd += half.scale.odd * (scale * high(sums) + offset * high(half.sums + ZERO));
  return y;
}

// Each of eight numbers, and MAGIC.
fn nibbles(word: u32) -> Eight {
  let high = word >> 4u;
  return Eight(
    vec4<u32>(
      number(word, byte_masks.x, byte_units.x), number(word, byte_masks.y, byte_units.y),
      number(word, byte_masks.z, byte_units.z), number(word, byte_masks.w, byte_units.w)),
    vec4<u32>(
      number(high, byte_masks.x, byte_units.x), number(high, byte_masks.y, byte_units.y),
      number(high, byte_masks.z, byte_units.z), number(high, byte_masks.w, byte_units.w)));
}

// Multiplied down instead of shifted, which would be done lane by lane.
fn number(word: u32, mask: u32, unit: f32) -> u32 {
  return bitcast<u32>(f32(i32(word & mask)) * unit + bitcast<f32>(MAGIC));
}

// Integers that wrap are u32: browsers compute those as they are. Sixteen columns of a word, counted from ZERO; `x_sum` of it takes off what MAGIC contributed.
fn product(q: array<Eight, 2>, x0: Eight, x1: Eight, x_sum: u32) -> u32 {
  return ZERO - MAGIC * x_sum
    + q[0].a.x * x0.a.x + q[0].a.y * x0.a.y + q[0].a.z * x0.a.z + q[0].a.w * x0.a.w
    + q[0].b.x * x0.b.x + q[0].b.y * x0.b.y + q[0].b.z * x0.b.z + q[0].b.w * x0.b.w
    + q[1].a.x * x1.a.x + q[1].a.y * x1.a.y + q[1].a.z * x1.a.z + q[1].a.w * x1.a.w
    + q[1].b.x * x1.b.x + q[1].b.y * x1.b.y + q[1].b.z * x1.b.z + q[1].b.w * x1.b.w;
}

// What sums in words, counted from ZERO, stand for: of the even tokens, and of the odd ones.
fn low(sums: vec4<u32>) -> vec4f {
  return vec4f(vec4<i32>(sums & vec4<u32>(0xffffu))) - f32(ZERO);
}

fn high(sums: vec4<u32>) -> vec4f {
  return vec4f(vec4<i32>(sums & vec4<u32>(0xffff0000u))) * 0x1p-16;
}
