// What is done with W·x, a pair of rows at a time: the epilogue. A kernel has one, or where a driver takes long to compile
// the product before, any: then the dispatch says which. Pairs are rows 2p and 2p + 1, the last of an odd number has one
// row; but for the fused gate and up, whose piece holds its rows of Wg and then the same rows of Wu, row p of either.

const STORE = 0u;    // y = W·x
const ADD = 1u;      // y += W·x, a residual
const GATE = 2u;     // y = silu(y) ⊙ W·x, up after its gate where the two could not be one product
const GATE_UP = 3u;  // y = silu(Wg·x) ⊙ Wu·x, silu(z) = z / (1 + e^−z)
const QKV = 4u;      // RoPE on queries and keys, and the append to the KV cache
const ANY = 5u;

override EPILOGUE: u32 = ANY;

@group(0) @binding(6) var<storage, read_write> y: array<f32>;  // [n_tokens, y_stride], of QKV the queries

fn epilogue() -> u32 {
  return select(EPILOGUE, params.epilogue, EPILOGUE == ANY);
}

fn pair_rows(pair: u32) -> vec2<u32> {
  let beside = vec2<u32>(2u * pair, min(2u * pair + 1u, params.n_rows - 1u));
  return select(beside, vec2<u32>(pair, params.n_pairs + pair), epilogue() == GATE_UP);
}
