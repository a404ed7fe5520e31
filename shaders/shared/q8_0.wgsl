// Q8_0: w = d·q, q signed. quants [n_rows, n_chunks, 2] vec4; aux [n_rows, n_chunks / 2] words of two f16 d.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let at = (row * params.n_chunks + chunk) * 2u;
  let a = quants[at];
  let b = quants[at + 1u];
  let d = half_of(aux[row * ((params.n_chunks + 1u) >> 1u) + (chunk >> 1u)], chunk & 1u);
  let q = array<vec4f, 8>(
    signed4(a.x), signed4(a.y), signed4(a.z), signed4(a.w), signed4(b.x), signed4(b.y), signed4(b.z), signed4(b.w));
  return Weights32(q, vec2f(d), vec2f(0.0));
}

// Four signed bytes: shifted to the top of a word, then back with the sign.
fn signed4(word: u32) -> vec4f {
  return vec4f(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}
