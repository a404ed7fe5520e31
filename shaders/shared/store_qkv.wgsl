// Epilogue of the fused QKV product: RoPE on queries and keys, and the append to the KV cache.
// (a, b) → (a·cos − b·sin, b·cos + a·sin) with the angle pos · theta^(−2j / head_dim) for rows 2j, 2j + 1
// of a head. A pair is rows 2p and 2p + 1, both halves of one rotation and one word of f16 cache.

@group(0) @binding(6) var<storage, read> rope: array<vec2f>;           // [max_seq, head_dim / 2] cos, sin
@group(0) @binding(7) var<storage, read_write> q: array<f32>;          // [n_tokens, y_stride]
@group(0) @binding(8) var<storage, read_write> k_cache: array<u32>;    // [n_kv_heads, max_seq, words] f16 pairs
@group(0) @binding(9) var<storage, read_write> v_cache: array<u32>;    // [n_kv_heads, max_seq, words] f16 pairs

fn pair_rows(pair: u32) -> vec2<u32> {
  return vec2<u32>(2u * pair, 2u * pair + 1u);
}

fn store_pair(token: u32, pair: u32, value: vec2f) {
  let pos = step.pos + token;
  let row = params.first_row + 2u * pair;
  if row < params.q_rows {
    let rotated = rotate(value, pos, row % params.head_dim);
    q[token * params.y_stride + row] = rotated.x;
    q[token * params.y_stride + row + 1u] = rotated.y;
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
