// y = W·x for several tokens in integers, for devices that compute on the CPU: as rows.wgsl, but x comes rounded to
// eight bits, two tokens in a word (see round.wgsl). So a multiplication by a quant is one for both, and half as many
// words are loaded, which is what takes those devices longest. For types of four bits, whose words lie as in Q4_0.
//
// SwiftShader keeps little in registers, and hardly anything through a loop: one sum is computed after another, and of a
// chunk everything is written out. That is more than a processor keeps at hand, so that every instruction counts: a
// constant takes two, what is only known at run time none. A lane takes the columns in an order of its own, so that it can
// use those that its neighbours have loaded as they come: its own, the one beside it, below it, and across.
//
// Grid: x, THREADS threads a workgroup; y, eight tokens.

override THREADS: u32 = 8u;

const PAIRS = 4u;
const TOKENS = 8u;

// What quants are counted from, so that a whole chunk fits a word's halves: 32 products are within 8·127·32 = 32512.
const MIDDLE = 8u;

// What the sums in a word are counted from, lest the low one be negative.
const ZERO = 32768u;

// The bits of 2^23, which leaves a small number that is added to it in a float's lowest bits.
const MAGIC = 0x4b000000u;

@group(0) @binding(2) var<storage, read> x: array<vec4<u32>>;    // [n_tokens / 8, columns]: tokens 2k, 2k + 1 in word k
@group(0) @binding(7) var<storage, read> x_scales: array<vec4f>; // [n_tokens / 8, n_chunks, 2]: even tokens, odd ones

// Of eight columns of a chunk the first four, and the others, in the lane's order.
struct Eight {
  a: vec4<u32>,
  b: vec4<u32>,
}

// Eight columns of x, by words.
alias X8 = array<Eight, 4>;

// Of one row, or of x, for every word: its even token and its odd one.
alias Sums = array<vec2f, 4>;

// A chunk of x.
struct Chunk {
  x: array<X8, 4>,
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
var<private> offset: u32;      // MAGIC + MIDDLE

fn begin_constants() {
  let is_true = params.n_chunks > 0u;
  top_bit = select(0u, 0x80000000u, is_true);
  low_mask = select(0u, 0xffffu, is_true);
  high_mask = ~low_mask;
  zero = select(0.0, f32(ZERO), is_true);
  begin = select(0u, ZERO, is_true);
  offset = select(0u, MAGIC + MIDDLE, is_true);
  let magic = bitcast<f32>(select(0u, MAGIC, is_true));
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
  let rows = array<u32, 8>(rows0.x, rows0.y, rows1.x, rows1.y, rows2.x, rows2.y, rows3.x, rows3.y);
  var y: array<Sums, 8>;
  for (var chunk = 0u; chunk < params.n_chunks; chunk++) {
    let x32 = load_chunk(group.y * params.n_chunks + chunk);
    y[0] = with_chunk(y[0], rows[0], chunk, x32);
    y[1] = with_chunk(y[1], rows[1], chunk, x32);
    y[2] = with_chunk(y[2], rows[2], chunk, x32);
    y[3] = with_chunk(y[3], rows[3], chunk, x32);
    y[4] = with_chunk(y[4], rows[4], chunk, x32);
    y[5] = with_chunk(y[5], rows[5], chunk, x32);
    y[6] = with_chunk(y[6], rows[6], chunk, x32);
    y[7] = with_chunk(y[7], rows[7], chunk, x32);
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

fn load_chunk(chunk: u32) -> Chunk {
  let x = array<X8, 4>(load8(32u * chunk), load8(32u * chunk + 8u), load8(32u * chunk + 16u), load8(32u * chunk + 24u));
  let scales = all8(vec2f(x_scales[2u * chunk][lane_part], x_scales[2u * chunk + 1u][lane_part]));
  let even = scales[0];
  let odd = scales[1] * 0x1p-16;
  let scale = Sums(vec2f(even.x, odd.x), vec2f(even.y, odd.y), vec2f(even.z, odd.z), vec2f(even.w, odd.w));
  return Chunk(
    x, scale,
    Sums(
      scale[0] * parts(sum_of(x[0][0]) + sum_of(x[1][0]) + sum_of(x[2][0]) + sum_of(x[3][0]) + ZERO),
      scale[1] * parts(sum_of(x[0][1]) + sum_of(x[1][1]) + sum_of(x[2][1]) + sum_of(x[3][1]) + ZERO),
      scale[2] * parts(sum_of(x[0][2]) + sum_of(x[1][2]) + sum_of(x[2][2]) + sum_of(x[3][2]) + ZERO),
      scale[3] * parts(sum_of(x[0][3]) + sum_of(x[1][3]) + sum_of(x[2][3]) + sum_of(x[3][3]) + ZERO)));
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

// The sums of a row, with a chunk.
fn with_chunk(before: Sums, row: u32, chunk: u32, x32: Chunk) -> Sums {
  // Scale and offset, which types of four bits have for a whole chunk.
  let halves = scales(row, chunk);
  let s = vec2f(halves[0].x, halves[1].x + f32(MIDDLE) * halves[0].x);
  let words = &quants[row * params.n_chunks + chunk];
  let q = array<Eight, 4>(nibbles((*words)[0]), nibbles((*words)[1]), nibbles((*words)[2]), nibbles((*words)[3]));
  return Sums(
    before[0] + with_word(product(q, x32.x[0][0], x32.x[1][0], x32.x[2][0], x32.x[3][0]), x32.scale[0], x32.sums[0], s),
    before[1] + with_word(product(q, x32.x[0][1], x32.x[1][1], x32.x[2][1], x32.x[3][1]), x32.scale[1], x32.sums[1], s),
    before[2] + with_word(product(q, x32.x[0][2], x32.x[1][2], x32.x[2][2], x32.x[3][2]), x32.scale[2], x32.sums[2], s),
    before[3] + with_word(product(q, x32.x[0][3], x32.x[1][3], x32.x[2][3], x32.x[3][3]), x32.scale[3], x32.sums[3], s));
}

// Those of a word's two tokens.
fn with_word(products: u32, x_scale: vec2f, x_sum: vec2f, s: vec2f) -> vec2f {
  return s.x * (x_scale * parts(products)) + s.y * x_sum;
}

// Each of eight quants, from MIDDLE.
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
  return bitcast<u32>(f32(i32(word & mask)) * unit + magic) - offset;
}

// A chunk of a word, counted from ZERO. Integers that wrap are u32: browsers compute those as they are. x is the first
// factor: SwiftShader, which loads that, would write a quant back each time, since it keeps those for a few lines only.
fn product(q: array<Eight, 4>, x0: Eight, x1: Eight, x2: Eight, x3: Eight) -> u32 {
  return x0.a.x * q[0].a.x + x0.a.y * q[0].a.y + x0.a.z * q[0].a.z + x0.a.w * q[0].a.w
    + x0.b.x * q[0].b.x + x0.b.y * q[0].b.y + x0.b.z * q[0].b.z + x0.b.w * q[0].b.w
    + x1.a.x * q[1].a.x + x1.a.y * q[1].a.y + x1.a.z * q[1].a.z + x1.a.w * q[1].a.w
    + x1.b.x * q[1].b.x + x1.b.y * q[1].b.y + x1.b.z * q[1].b.z + x1.b.w * q[1].b.w
    + x2.a.x * q[2].a.x + x2.a.y * q[2].a.y + x2.a.z * q[2].a.z + x2.a.w * q[2].a.w
    + x2.b.x * q[2].b.x + x2.b.y * q[2].b.y + x2.b.z * q[2].b.z + x2.b.w * q[2].b.w
    + x3.a.x * q[3].a.x + x3.a.y * q[3].a.y + x3.a.z * q[3].a.z + x3.a.w * q[3].a.w
    + x3.b.x * q[3].b.x + x3.b.y * q[3].b.y + x3.b.z * q[3].b.z + x3.b.w * q[3].b.w
    + begin;
}

// What the sums in a word, counted from ZERO, stand for: of the even token, and of the odd one times 2^16.
fn parts(sums: u32) -> vec2f {
  return vec2f(f32(i32(sums & low_mask)) - zero, f32(i32(sums & high_mask)));
}
