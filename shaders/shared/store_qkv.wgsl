// The epilogue of QKV: RoPE on queries and keys, and the append to the KV cache.
//
// (a, b) → (a·cos − b·sin, b·cos + a·sin) with the angle pos · theta^(−2j / head_dim) for rows 2j, 2j + 1 of a head: a
// pair is both halves of one rotation, and one word of f16 cache. The heads of values follow those of keys, there as in
// the matrix.

@group(0) @binding(8) var<storage, read_write> kv_cache: array<u32>;  // [2 n_kv_heads, room, words] f16 pairs

fn store_qkv(token: u32, pair: u32, value: vec2f) {
  let pos = step.pos + token;
  let row = params.first_row + 2u * pair;
  if row < params.q_rows {
    let rotated = rotate(value, pos, row % params.head_dim);
    y[token * params.y_stride + row] = rotated.x;
    y[token * params.y_stride + row + 1u] = rotated.y;
  } else {
    let kv_row = row - params.q_rows;
    let dim = kv_row % params.head_dim;
    let at = cache_at(kv_row / params.head_dim, pos, dim);
    if kv_row < params.k_rows {
      kv_cache[at] = pack2x16float(rotate(value, pos, dim));
    } else {
      kv_cache[at] = pack2x16float(value);
    }
  }
}

fn rotate(value: vec2f, pos: u32, dim: u32) -> vec2f {
  let at = pos * (params.head_dim / 2u) + dim / 2u;
  let angles = tables[at / 2u];
  let cos_sin = select(angles.xy, angles.zw, (at & 1u) == 1u);
  return vec2f(
    value.x * cos_sin.x - value.y * cos_sin.y,
    value.y * cos_sin.x + value.x * cos_sin.y);
}

// The cache keeps a head in whole vec4: words = head_dim / 2 rounded up to 4.
fn cache_at(head: u32, pos: u32, dim: u32) -> u32 {
  let words = (params.head_dim / 2u + 3u) / 4u * 4u;
  return (head * params.room + pos) * words + dim / 2u;
}
