// Epilogue of the fused gate and up product: y = silu(Wg·x) ⊙ Wu·x, silu(z) = z / (1 + e^−z). The piece
// holds its rows of Wg, then the same rows of Wu: a pair is row p of either.

@group(0) @binding(6) var<storage, read_write> y: array<f32>;  // [n_tokens, y_stride]

fn pair_rows(pair: u32) -> vec2<u32> {
  return vec2<u32>(pair, params.n_pairs + pair);
}

fn store_pair(token: u32, pair: u32, value: vec2f) {
  y[token * params.y_stride + params.first_row + pair] = value.x / (1.0 + exp(-value.x)) * value.y;
}
