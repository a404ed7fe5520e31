// A matrix whose first rows are of one type and whose others are of another, which has planes of its own. The names in the
// second type's file end in _second, and its rows are counted from its own first. A workgroup has rows of one type, but
// for one at most.

@group(0) @binding(9) var<storage, read> quants_second: array<vec4<u32>>;
@group(0) @binding(10) var<storage, read> aux_second: array<Aux_second>;

fn weights32(row: u32, chunk: u32) -> Weights32 {
  if row < params.n_first {
    return weights32_first(row, chunk);
  }
  return weights32_second(row - params.n_first, chunk);
}
