// The end of a kernel with one epilogue, which is not that of QKV.
fn store_pair(token: u32, pair: u32, value: vec2f) {
  if epilogue() == GATE_UP {
    store_gate_up(token, pair, value);
  } else {
    store_plain(token, pair, value);
  }
}
