// Epilogue of a product: what is done with W·x, a pair of rows at a time. A kernel has one of them, or where a driver
// takes long to compile the product before, any: then the dispatch says which. Pairs are rows 2p and 2p + 1, the last of
// an odd number has one row; but for the fused gate and up, whose piece holds its rows of Wg and then the same rows of Wu,
// row p of either.

const STORE = 0u;    // y = W·x
const ADD = 1u;      // y += W·x, a residual
const GATE = 2u;     // y = silu(y) ⊙ W·x, up after its gate where the two could not be one product
const GATE_UP = 3u;  // y = silu(Wg·x) ⊙ Wu·x, silu(z) = z / (1 + e^−z)
const QKV = 4u;      // RoPE on queries and keys, and the append to the KV cache
const ANY = 5u;

override EPILOGUE: u32 = ANY;

@group(0) @binding(6) var<storage, read> rope: array<vec2f>;           // [max_seq, head_dim / 2] cos, sin
@group(0) @binding(7) var<storage, read_write> y: array<f32>;          // [n_tokens, y_stride], of QKV the queries
@group(0) @binding(8) var<storage, read_write> k_cache: array<u32>;    // [n_kv_heads, max_seq, words] f16 pairs
@group(0) @binding(9) var<storage, read_write> v_cache: array<u32>;    // [n_kv_heads, max_seq, words] f16 pairs

fn epilogue() -> u32 {
  return select(EPILOGUE, params.epilogue, EPILOGUE == ANY);
}

fn pair_rows(pair: u32) -> vec2<u32> {
  let beside = vec2<u32>(2u * pair, min(2u * pair + 1u, params.n_rows - 1u));
  return select(beside, vec2<u32>(pair, params.n_pairs + pair), epilogue() == GATE_UP);
}

fn store_pair(token: u32, pair: u32, value: vec2f) {
  if epilogue() == QKV {
    store_qkv(token, pair, value);
  } else if epilogue() == GATE_UP {
    store_gate_up(token, pair, value);
  } else {
    store_plain(token, pair, value);
  }
}

fn store_gate_up(token: u32, pair: u32, value: vec2f) {
  y[token * params.y_stride + params.first_row + pair] = silu(value.x) * value.y;
}

fn store_plain(token: u32, pair: u32, value: vec2f) {
  let at = token * params.y_stride + params.first_row + 2u * pair;
  store(at, value.x);
  if 2u * pair + 1u < params.n_rows {
    store(at + 1u, value.y);
  }
}

fn store(at: u32, value: f32) {
  var result = value;
  if epilogue() != STORE {
    let before = y[at];
    result = select(before + value, silu(before) * value, epilogue() == GATE);
  }
  y[at] = result;
}

fn silu(z: f32) -> f32 {
  return z / (1.0 + exp(-z));
}

// (a, b) → (a·cos − b·sin, b·cos + a·sin) with the angle pos · theta^(−2j / head_dim) for rows 2j, 2j + 1 of a head: a
// pair is both halves of one rotation, and one word of f16 cache.
fn store_qkv(token: u32, pair: u32, value: vec2f) {
  let pos = step.pos + token;
  let row = params.first_row + 2u * pair;
  if row < params.q_rows {
    let rotated = rotate(value, pos, row % params.head_dim);
    y[token * params.y_stride + row] = rotated.x;
    y[token * params.y_stride + row + 1u] = rotated.y;
  } else if row < params.q_rows + params.k_rows {
    let k_row = row - params.q_rows;
    k_cache[cache_at(k_row, pos)] = pack2x16float(rotate(value, pos, k_row % params.head_dim));
  } else {
    v_cache[cache_at(row - params.q_rows - params.k_rows, pos)] = pack2x16float(value);
  }
}

fn rotate(value: vec2f, pos: u32, dim: u32) -> vec2f {
  let cos_sin = rope[pos * (params.head_dim / 2u) + dim / 2u];
  return vec2f(
    value.x * cos_sin.x - value.y * cos_sin.y,
    value.y * cos_sin.x + value.x * cos_sin.y);
}

// The cache keeps a head in whole vec4: words = head_dim / 2 rounded up to 4.
fn cache_at(row: u32, pos: u32) -> u32 {
  let words = (params.head_dim / 2u + 3u) / 4u * 4u;
  let head = row / params.head_dim;
  return (head * params.max_seq + pos) * words + (row % params.head_dim) / 2u;
}
