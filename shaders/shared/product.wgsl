// What every product with a weight matrix shares: W [n_rows, cols] as quants and aux planes (the layout
// of a dtype is described in its own file), and the numbers of the step. x [n_tokens, cols] is in binding 2, and where
// it was prepared, its scales are in binding 7.

struct Step {
  pos: u32,          // position in the context of the step's first token
  n_tokens: u32,     // tokens in the step
  first_token: u32,  // the row of x that is the step's first token
  slice_len: u32,    // cached positions per slice of the attention
}

struct Params {
  n_chunks: u32,   // 32-weight chunks in a row, padding included
  n_rows: u32,     // rows in this piece of the matrix
  n_pairs: u32,    // row pairs in this piece; which rows make a pair is the epilogue's business
  first_row: u32,  // the piece's first row in the whole matrix
  x_stride: u32,   // vec4 from one token of x to the next
  y_stride: u32,   // elements from one token of the output to the next
  cols: u32,       // columns without padding, the n of RMSNorm's mean
  eps: f32,        // RMSNorm's epsilon
  q_rows: u32,     // rows of the fused QKV matrix that are queries
  k_rows: u32,     // and rows that are keys; the rest are values
  head_dim: u32,   // elements in a head
  room: u32,       // positions that the KV cache has room for
  epilogue: u32,   // which of store.wgsl's, for kernels that have all
  has_norm: u32,   // whether RMSNorm comes before, for kernels that have both
  norm_at: u32,    // where in tables the norm's weights begin
  n_first: u32,    // rows of the first type, for kernels of two
}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
// cos, sin [max_seq, head_dim / 2], read by QKV; and from norm_at on the norm's weights [x_stride], unread without one.
@group(0) @binding(3) var<storage, read> tables: array<vec4f>;
@group(0) @binding(4) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> aux: array<Aux>;

// Four of the norm's weights.
fn norm(at: u32) -> vec4f {
  return tables[params.norm_at + at];
}
