// F32, quants only: [n_rows, n_chunks, 8] vec4 of f32 bits.
fn weights16(row: u32, half: u32) -> Weights16 {
  let at = row * params.n_chunks * 8u + half * 4u;
  let q = array<vec4f, 4>(
    bitcast<vec4f>(quants[at]), bitcast<vec4f>(quants[at + 1u]),
    bitcast<vec4f>(quants[at + 2u]), bitcast<vec4f>(quants[at + 3u]));
  return Weights16(q, 1.0, 0.0);
}
