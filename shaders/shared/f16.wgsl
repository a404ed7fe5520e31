// F16, quants only: [n_rows, n_chunks, 4] vec4 of eight f16 each.
fn weights16(row: u32, half: u32) -> Weights16 {
  let at = row * params.n_chunks * 4u + half * 2u;
  let a = quants[at];
  let b = quants[at + 1u];
  let q = array<vec4f, 4>(
    vec4f(unpack2x16float(a.x), unpack2x16float(a.y)), vec4f(unpack2x16float(a.z), unpack2x16float(a.w)),
    vec4f(unpack2x16float(b.x), unpack2x16float(b.y)), vec4f(unpack2x16float(b.z), unpack2x16float(b.w)));
  return Weights16(q, 1.0, 0.0);
}
