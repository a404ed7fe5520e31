// F32, quants only: [n_rows, n_chunks, 8] vec4 of f32 bits.
fn quants8(row: u32, chunk: u32, quarter: u32) -> Quants8 {
  let at = (row * params.n_chunks + chunk) * 8u + 2u * quarter;
  return Quants8(bitcast<vec4f>(quants[at]), bitcast<vec4f>(quants[at + 1u]));
}
