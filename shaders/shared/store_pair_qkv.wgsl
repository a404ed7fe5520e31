// The end of a kernel for QKV alone.
fn store_pair(token: u32, pair: u32, value: vec2f) {
  store_qkv(token, pair, value);
}
