// Q8_0: w = d·q, q signed. quants [n_rows, n_chunks, 2] vec4; aux [n_rows, n_chunks / 2] words of two f16 d.
fn weights16(row: u32, half: u32) -> Weights16 {
  let chunk = half >> 1u;
  let words = quants[row * params.n_chunks * 2u + half];
  let d = half_of(aux[row * ((params.n_chunks + 1u) >> 1u) + (chunk >> 1u)], chunk & 1u);
  let q = array<vec4f, 4>(signed4(words.x), signed4(words.y), signed4(words.z), signed4(words.w));
  return Weights16(q, d, 0.0);
}

// Four signed bytes: shifted to the top of a word, then back with the sign.
fn signed4(word: u32) -> vec4f {
  return vec4f(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}
