// x = E[id] for every token: the embedding matrix decoded row by row, [n_rows, cols] in a weight dtype.
//
// Grid: x, 64 chunks of 32 columns a workgroup; y, the tokens. A matrix in several pieces takes a
// dispatch each, and a token is written by the piece that holds its row.

struct Params {
  n_chunks: u32,   // 32-weight chunks in a row
  n_rows: u32,     // rows in this piece
  first_row: u32,  // the piece's first row in the whole matrix
  y_stride: u32,   // vec4 from one token of the output to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;              // [n_tokens]
@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> aux: array<Aux>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;        // [n_tokens, y_stride]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) thread: vec3<u32>) {
  let chunk = thread.x;
  let token = thread.y;
  let id = ids[token];
  if chunk >= params.n_chunks || id < params.first_row || id - params.first_row >= params.n_rows {
    return;
  }
  let w = weights32(id - params.first_row, chunk);
  let at = token * params.y_stride + 8u * chunk;
  for (var i = 0u; i < 4u; i++) {
    y[at + i] = w.q[i] * w.scale.x + w.offset.x;
    y[at + 4u + i] = w.q[4u + i] * w.scale.y + w.offset.y;
  }
}
