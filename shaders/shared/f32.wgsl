// F32, quants only: [n_rows, n_chunks, 8] vec4 of f32 bits.
fn weights32(row: u32, chunk: u32) -> Weights32 {
  let at = (row * params.n_chunks + chunk) * 8u;
  let q = array<vec4f, 8>(
    bitcast<vec4f>(quants[at]), bitcast<vec4f>(quants[at + 1u]),
    bitcast<vec4f>(quants[at + 2u]), bitcast<vec4f>(quants[at + 3u]),
    bitcast<vec4f>(quants[at + 4u]), bitcast<vec4f>(quants[at + 5u]),
    bitcast<vec4f>(quants[at + 6u]), bitcast<vec4f>(quants[at + 7u]));
  return Weights32(q, vec2f(1.0), vec2f(0.0));
}
