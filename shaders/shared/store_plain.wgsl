// Epilogue of a product: y = W·x, y += W·x (a residual), or y = silu(y) ⊙ W·x (up after its gate, where the
// two could not be one product). A pair is rows 2p and 2p + 1; the last pair of an odd number has one row.

override ADD: bool = false;
override GATE: bool = false;

@group(0) @binding(6) var<storage, read_write> y: array<f32>;  // [n_tokens, y_stride]

fn pair_rows(pair: u32) -> vec2<u32> {
  return vec2<u32>(2u * pair, min(2u * pair + 1u, params.n_rows - 1u));
}

fn store_pair(token: u32, pair: u32, value: vec2f) {
  let at = token * params.y_stride + params.first_row + 2u * pair;
  store(at, value.x);
  if 2u * pair + 1u < params.n_rows {
    store(at + 1u, value.y);
  }
}

fn store(at: u32, value: f32) {
  if ADD {
    y[at] += value;
  } else if GATE {
    y[at] = y[at] / (1.0 + exp(-y[at])) * value;
  } else {
    y[at] = value;
  }
}
