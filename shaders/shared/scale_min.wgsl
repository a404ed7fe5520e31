// d·sc and dmin·m of sub-block j of a Q4_K or Q5_K block: `block` is its 12 bytes of scales, then f16 d and dmin. With s
// the 12 bytes: for j < 4 the low six bits of s[j] and s[j + 4]; else the low four bits are in s[j + 4] (sc low, m high)
// and the upper two on top of s[j − 4] and s[j].
fn scale_min(block: vec4<u32>, j: u32) -> vec2f {
  let s0 = byte_of(block.x, j & 3u);
  let s1 = byte_of(block.y, j & 3u);
  let s2 = byte_of(block.z, j & 3u);
  let first = vec2<u32>(s0 & 63u, s1 & 63u);
  let last = vec2<u32>((s2 & 15u) | ((s0 >> 6u) << 4u), (s2 >> 4u) | ((s1 >> 6u) << 4u));
  return unpack2x16float(block.w) * vec2f(select(last, first, j < 4u));
}
