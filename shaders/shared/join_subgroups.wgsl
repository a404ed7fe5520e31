// Sums over blocks of JOINED lanes, which every lane of the block gets. Lanes that are neighbours in the
// workgroup are neighbours in a subgroup.

fn in_subgroup(y: mat4x2f) -> mat4x2f {
  let a = in_subgroup4(vec4f(y[0], y[1]));
  if TOKENS == 1u {
    return mat4x2f(a.xy, a.zw, y[2], y[3]);
  }
  let b = in_subgroup4(vec4f(y[2], y[3]));
  return mat4x2f(a.xy, a.zw, b.xy, b.zw);
}

fn in_subgroup4(v: vec4f) -> vec4f {
  var sum = v;
  for (var n = JOINED / 2u; n > 0u; n /= 2u) {
    sum += subgroupShuffleXor(sum, n);
  }
  return sum;
}
