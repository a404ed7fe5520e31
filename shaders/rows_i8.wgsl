// y = W·x for several tokens in integers, for devices that compute on the CPU: as rows.wgsl, but x comes rounded to
// eight bits, two tokens in a word (see round.wgsl). So a multiplication by a quant is one for both, and half as many
// words are loaded, which is what takes those devices longest. For types of four bits, whose words lie as in Q4_0.
//
// SwiftShader keeps little in registers, and hardly anything through a loop: one sum is computed after another, and of
// half a chunk everything is written out. That is more than a processor keeps at hand, so that every instruction counts:
// a constant takes two, what is only known at run time none. A lane takes the columns in an order of its own, so that it
// can use those that its neighbours have loaded as they come: its own, the one beside it, below it, and across.
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
@group(0) @binding(7) var<storage, read> x_scales: array<vec4f>; // [n_tokens / 8, n_chunks, 2 halves]: even, odd tokens

// Of eight columns of a chunk the first four, and the others, in the lane's order.
struct Eight {
  a: vec4<u32>,
  b: vec4<u32>,
}

// Eight columns of x, by words.
alias X8 = array<Eight, 4>;

// Of one row, or of x, for every word: its even token and its odd one.
alias Sums = array<vec2f, 4>;

// Half a chunk of x.
struct Half {
  x: array<X8, 2>,
  scale: Sums,  // that of high sums, which stand 2^16 too high, with it
  sums: Sums,   // of x itself
}

// Bytes of a word in the lane's order, in their low four bits and in their high ones.
struct Nibbles {
  masks: vec4<u32>,
  units: vec4f,   // what the lowest bits stand for, inverted
  magics: vec4f,  // MAGIC, and what was taken off
}

var<private> low_nibbles: Nibbles;
var<private> high_nibbles: Nibbles;

// Constants that are not known before.
var<private> top_bit: u32;
var<private> low_mask: u32;
var<private> high_mask: u32;
var<private> zero: f32;        // ZERO
var<private> begin: u32;       // ZERO
var<private> magic_bits: u32;  // MAGIC

fn begin_constants() {
  let is_true = params.n_chunks > 0u;
  top_bit = select(0u, 0x80000000u, is_true);
  low_mask = select(0u, 0xffffu, is_true);
  high_mask = ~low_mask;
  zero = select(0.0, f32(ZERO), is_true);
  begin = select(0u, ZERO, is_true);
  magic_bits = select(0u, MAGIC, is_true);
  let magic = bitcast<f32>(magic_bits);
  let order = order8();
  let masks = vec4<u32>(0xfu) << (8u * order);
  let units = exp2(-8.0 * vec4f(order));
  low_nibbles = Nibbles(masks, units, vec4f(magic));
  // A number in the top four bits is negative from 8 on; with the top bit inverted it is 8 too low, whatever it is.
  let is_top = order == vec4<u32>(3u);
  high_nibbles = Nibbles(
    masks << vec4<u32>(4u), units * 0x1p-4, select(vec4f(magic), vec4f(magic + 8.0), is_top));
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  begin8();
  begin_constants();
  let first_pair = (group.x * THREADS + thread) * PAIRS;
  let rows0 = rows_of(first_pair);
  let rows1 = rows_of(first_pair + 1u);
  let rows2 = rows_of(first_pair + 2u);
  let rows3 = rows_of(first_pair + 3u);
  var rows = array<u32, 8>(rows0.x, rows0.y, rows1.x, rows1.y, rows2.x, rows2.y, rows3.x, rows3.y);
  var y: array<Sums, 8>;
  for (var chunk = 0u; chunk < params.n_chunks; chunk++) {
    // Scale and offset, which types of four bits have for a whole chunk. In a loop after all: what unpacks them takes long
    // to compile.
    var s: array<vec2f, 8>;
    for (var r = 0u; r < 8u; r++) {
      let halves = scales(rows[r], chunk);
      s[r] = vec2f(halves[0].x, halves[1].x);
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
    results[even] = vec2f(y[0][k].x, y[1][k].x);
    results[even + 1u] = vec2f(y[2][k].x, y[3][k].x);
    results[even + 2u] = vec2f(y[4][k].x, y[5][k].x);
    results[even + 3u] = vec2f(y[6][k].x, y[7][k].x);
    let odd = even + PAIRS;
    results[odd] = vec2f(y[0][k].y, y[1][k].y);
    results[odd + 1u] = vec2f(y[2][k].y, y[3][k].y);
    results[odd + 2u] = vec2f(y[4][k].y, y[5][k].y);
    results[odd + 3u] = vec2f(y[6][k].y, y[7][k].y);
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
  let scales = all8(vec2f(x_scales[2u * half][lane_part], x_scales[2u * half + 1u][lane_part]));
  let even = scales[0];
  let odd = scales[1] * 0x1p-16;
  let scale = Sums(vec2f(even.x, odd.x), vec2f(even.y, odd.y), vec2f(even.z, odd.z), vec2f(even.w, odd.w));
  return Half(
    x16, scale,
    Sums(
      scale[0] * parts(sums.x + ZERO), scale[1] * parts(sums.y + ZERO),
      scale[2] * parts(sums.z + ZERO), scale[3] * parts(sums.w + ZERO)));
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
fn with_half(before: Sums, row: u32, chunk: u32, i: u32, s: vec2f, half: Half) -> Sums {
  let words = &quants[row * params.n_chunks + chunk];
  let q = array<Eight, 2>(nibbles((*words)[2u * i]), nibbles((*words)[2u * i + 1u]));
  return Sums(
    before[0] + with_word(q, half.x[0][0], half.x[1][0], half.scale[0], half.sums[0], s),
    before[1] + with_word(q, half.x[0][1], half.x[1][1], half.scale[1], half.sums[1], s),
    before[2] + with_word(q, half.x[0][2], half.x[1][2], half.scale[2], half.sums[2], s),
    before[3] + with_word(q, half.x[0][3], half.x[1][3], half.scale[3], half.sums[3], s));
}

// Those with a word's two tokens.
fn with_word(q: array<Eight, 2>, x0: Eight, x1: Eight, x_scale: vec2f, x_sum: vec2f, s: vec2f) -> vec2f {
  return s.x * (x_scale * parts(product(q, x0, x1))) + s.y * x_sum;
}

// Each of eight numbers.
fn nibbles(word: u32) -> Eight {
  return Eight(numbers(word, low_nibbles), numbers(word ^ top_bit, high_nibbles));
}

fn numbers(word: u32, n: Nibbles) -> vec4<u32> {
  return vec4<u32>(
    number(word, n.masks.x, n.units.x, n.magics.x), number(word, n.masks.y, n.units.y, n.magics.y),
    number(word, n.masks.z, n.units.z, n.magics.z), number(word, n.masks.w, n.units.w, n.magics.w));
}

// Multiplied down instead of shifted, which would be done lane by lane. That MAGIC is taken off is also to make it an
// integer once: a float's bits would be copied wherever they are used as one.
fn number(word: u32, mask: u32, unit: f32, magic: f32) -> u32 {
  return bitcast<u32>(f32(i32(word & mask)) * unit + magic) - magic_bits;
}

// Sixteen columns of a word, counted from ZERO. Integers that wrap are u32: browsers compute those as they are. x is the
// first factor: SwiftShader, which loads that, would write a quant back each time, since it keeps those for a few lines only.
fn product(q: array<Eight, 2>, x0: Eight, x1: Eight) -> u32 {
  return begin
    + x0.a.x * q[0].a.x + x0.a.y * q[0].a.y + x0.a.z * q[0].a.z + x0.a.w * q[0].a.w
    + x0.b.x * q[0].b.x + x0.b.y * q[0].b.y + x0.b.z * q[0].b.z + x0.b.w * q[0].b.w
    + x1.a.x * q[1].a.x + x1.a.y * q[1].a.y + x1.a.z * q[1].a.z + x1.a.w * q[1].a.w
    + x1.b.x * q[1].b.x + x1.b.y * q[1].b.y + x1.b.z * q[1].b.z + x1.b.w * q[1].b.w;
}

// What the sums in a word, counted from ZERO, stand for: of the even token, and of the odd one times 2^16.
fn parts(sums: u32) -> vec2f {
  return vec2f(f32(i32(sums & low_mask)) - zero, f32(i32(sums & high_mask)));
}
