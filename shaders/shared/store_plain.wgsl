// Every epilogue but that of QKV.

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
