// Causal attention of a block of queries over a slice of the KV cache, in one pass:
// softmax(q·Kᵀ / sqrt(head_dim))·V with a running maximum and sum (online softmax).
//
// Grid: x, the key-value heads; y, blocks of ROWS query rows; z, slices of the cache. The query rows of a
// key-value head are its tokens and, within a token, its group of query heads, so that a group shares
// every read of K and V. With one slice the result is final, else attention_combine joins the slices.
// 64 positions at a time: first a thread scores one position for all rows, then it sums one or two words
// of V over the positions. What all threads need, eight numbers of q or of the probabilities, comes from
// q8 and p8, in an order that k8 and order8 have too: see shared/eight_own.wgsl and shared/eight_shared.wgsl.
// What is done for every row is written out: some drivers keep an array that a loop goes through in memory.

override ROWS: u32 = 8u;        // query rows a block, at most 8
override P_SIZE: u32 = 512u;    // ROWS · TILE
override HEAD_VECS: u32 = 16u;  // vec4f in a head, padded to whole vec4 of f16 in the cache: a multiple of 2

struct Step {
  pos: u32,
  n_tokens: u32,
  first_token: u32,
  slice_len: u32,
}

struct Params {
  n_heads: u32,
  n_groups: u32,   // query heads a key-value head
  head_dim: u32,
  max_seq: u32,
  stride: u32,     // elements from one token of q, and of the output, to the next
  scale: f32,      // 1 / sqrt(head_dim)
}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> q: array<f32>;                // [n_tokens, stride]
@group(0) @binding(3) var<storage, read> k_cache: array<vec4<u32>>;    // [n_kv_heads, max_seq, HEAD_VECS / 2]
@group(0) @binding(4) var<storage, read> v_cache: array<u32>;          // [n_kv_heads, max_seq, HEAD_VECS · 2]
@group(0) @binding(5) var<storage, read_write> out: array<f32>;        // [n_tokens, stride]
@group(0) @binding(6) var<storage, read_write> slices: array<f32>;     // [n_heads, n_slices, head_dim + 2]

const TILE = 64u;        // cached positions at a time, one a thread
const MASKED = -1e30;    // finite: no arithmetic on infinities

// A number of every row.
alias Scores = array<vec4f, 2>;
// Two dimensions of every row's result.
alias Sums = array<vec2f, 8>;

var<workgroup> p_tile: array<f32, P_SIZE>;      // [ROWS, TILE] scores, then probabilities
var<workgroup> part: array<f32, 64>;            // [ROWS, 8] parts of a row's maximum or sum
var<workgroup> row_max: array<f32, 8>;
var<workgroup> row_sum: array<f32, 8>;
var<workgroup> row_decay: array<f32, 8>;        // what the old sums are worth under the new maximum

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) n_workgroups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let kv_head = group.x;
  let first_row = group.y * ROWS;
  let n_rows = step.n_tokens * params.n_groups;

  stage_q(kv_head, first_row, n_rows, thread);
  if thread < ROWS {
    row_max[thread] = MASKED;
    row_sum[thread] = 0.0;
  }
  workgroupBarrier();

  let last_row = min(first_row + ROWS, n_rows) - 1u;
  let begin = group.z * step.slice_len;
  let end = min(begin + step.slice_len, step.pos + last_row / params.n_groups + 1u);
  var acc0 = Sums();  // word `thread` of V's row
  var acc1 = Sums();  // and word `thread` + 64
  for (var tile = begin; tile < end; tile += TILE) {
    // Scores.
    let t = tile + thread;
    let k_at = (kv_head * params.max_seq + min(t, end - 1u)) * (HEAD_VECS / 2u);
    // The initialiser, too, is written out: SwiftShader keeps the last round's values of a variable without one.
    var score = Scores();
    for (var v = 0u; v < HEAD_VECS / 2u; v++) {
      score = with_scores(score, v, k8(k_at + v));
    }
    for (var r = 0u; r < ROWS; r++) {
      let seen = t < end && t <= step.pos + (first_row + r) / params.n_groups;
      p_tile[r * TILE + thread] = select(MASKED, score[r / 4u][r % 4u] * params.scale, seen);
    }
    workgroupBarrier();

    // Maxima, probabilities and sums: eight threads a row.
    let r = thread / 8u;
    let lane = thread % 8u;
    if r < ROWS {
      var largest = MASKED;
      for (var i = lane; i < TILE; i += 8u) {
        largest = max(largest, p_tile[r * TILE + i]);
      }
      part[thread] = largest;
    }
    workgroupBarrier();
    var largest = MASKED;
    var sum = 0.0;
    if r < ROWS {
      largest = row_max[r];
      for (var i = 0u; i < 8u; i++) {
        largest = max(largest, part[r * 8u + i]);
      }
      for (var i = lane; i < TILE; i += 8u) {
        let s = p_tile[r * TILE + i];
        let p = select(exp(s - largest), 0.0, s <= MASKED);
        p_tile[r * TILE + i] = p;
        sum += p;
      }
    }
    workgroupBarrier();
    part[thread] = sum;
    workgroupBarrier();
    if r < ROWS && lane == 0u {
      let decay = exp(row_max[r] - largest);
      sum = row_sum[r] * decay;
      for (var i = 0u; i < 8u; i++) {
        sum += part[r * 8u + i];
      }
      row_sum[r] = sum;
      row_max[r] = largest;
      row_decay[r] = decay;
    }
    workgroupBarrier();

    // Values. All threads go along, though some have no word: a subgroup needs all its lanes.
    let n_here = min(TILE, end - tile);
    acc0 = with_values(acc0, kv_head, tile, n_here, thread);
    if 2u * HEAD_VECS > TILE {
      acc1 = with_values(acc1, kv_head, tile, n_here, thread + TILE);
    }
    workgroupBarrier();
  }

  for (var c = 0u; c < 2u; c++) {
    let dim = 2u * (thread + c * TILE);
    if dim < params.head_dim {
      for (var i = 0u; i < ROWS; i++) {
        if first_row + i < n_rows {
          let sum = select(acc0[i], acc1[i], c == 1u);
          if n_workgroups.z == 1u {
            let at = q_at(kv_head, first_row + i) + dim;
            let value = sum / row_sum[i];
            out[at] = value.x;
            out[at + 1u] = value.y;
          } else {
            let at = slice_at(kv_head, first_row + i, group.z, n_workgroups.z);
            slices[at + dim] = sum.x;
            slices[at + dim + 1u] = sum.y;
          }
        }
      }
    }
  }
  if n_workgroups.z > 1u && thread < ROWS && first_row + thread < n_rows {
    let at = slice_at(kv_head, first_row + thread, group.z, n_workgroups.z) + params.head_dim;
    slices[at] = row_max[thread];
    slices[at + 1u] = row_sum[thread];
  }
}

// The rows' scores of a position, with eight dimensions more.
fn with_scores(before: Scores, v: u32, k: mat2x4f) -> Scores {
  var score = before;
  score[0].x += dot8(q8(0u, v), k);
  if ROWS > 1u {
    score[0].y += dot8(q8(1u, v), k);
  }
  if ROWS > 2u {
    score[0].z += dot8(q8(2u, v), k);
  }
  if ROWS > 3u {
    score[0].w += dot8(q8(3u, v), k);
  }
  if ROWS > 4u {
    score[1].x += dot8(q8(4u, v), k);
    score[1].y += dot8(q8(5u, v), k);
    score[1].z += dot8(q8(6u, v), k);
    score[1].w += dot8(q8(7u, v), k);
  }
  return score;
}

fn dot8(a: mat2x4f, b: mat2x4f) -> f32 {
  return dot(a[0], b[0]) + dot(a[1], b[1]);
}

// The rows' sums with `n_here` positions from `tile` on: of a word of V past the last, that again.
fn with_values(before: Sums, kv_head: u32, tile: u32, n_here: u32, word: u32) -> Sums {
  let words = 2u * HEAD_VECS;
  let v_at = (kv_head * params.max_seq + tile) * words + min(word, words - 1u);
  var acc = Sums(
    row_decay[0] * before[0], row_decay[1] * before[1], row_decay[2] * before[2], row_decay[3] * before[3],
    row_decay[4] * before[4], row_decay[5] * before[5], row_decay[6] * before[6], row_decay[7] * before[7]);
  for (var j = 0u; j < n_here; j += 8u) {
    let v = values8(v_at, words, j, n_here - 1u);
    acc[0] += sum8(p8(j), v);
    if ROWS > 1u {
      acc[1] += sum8(p8(TILE + j), v);
    }
    if ROWS > 2u {
      acc[2] += sum8(p8(2u * TILE + j), v);
    }
    if ROWS > 3u {
      acc[3] += sum8(p8(3u * TILE + j), v);
    }
    if ROWS > 4u {
      acc[4] += sum8(p8(4u * TILE + j), v);
      acc[5] += sum8(p8(5u * TILE + j), v);
      acc[6] += sum8(p8(6u * TILE + j), v);
      acc[7] += sum8(p8(7u * TILE + j), v);
    }
  }
  return acc;
}

// A word of V, two numbers, of eight positions; past the last, whose probability is 0, that again.
fn values8(at: u32, words: u32, j: u32, last: u32) -> array<vec2f, 8> {
  let near = order8() + j;
  let far = near + 4u;
  return array<vec2f, 8>(
    value(at, words, min(near.x, last)), value(at, words, min(near.y, last)),
    value(at, words, min(near.z, last)), value(at, words, min(near.w, last)),
    value(at, words, min(far.x, last)), value(at, words, min(far.y, last)),
    value(at, words, min(far.z, last)), value(at, words, min(far.w, last)));
}

fn value(at: u32, words: u32, position: u32) -> vec2f {
  return unpack2x16float(v_cache[at + position * words]);
}

fn sum8(p: mat2x4f, v: array<vec2f, 8>) -> vec2f {
  return p[0].x * v[0] + p[0].y * v[1] + p[0].z * v[2] + p[0].w * v[3]
    + p[1].x * v[4] + p[1].y * v[5] + p[1].z * v[6] + p[1].w * v[7];
}

// Where the query of a row (token · n_groups + query head of the group) begins in q, and its result in out.
fn q_at(kv_head: u32, row: u32) -> u32 {
  let head = kv_head * params.n_groups + row % params.n_groups;
  return row / params.n_groups * params.stride + head * params.head_dim;
}

fn slice_at(kv_head: u32, row: u32, slice: u32, n_slices: u32) -> u32 {
  let head = kv_head * params.n_groups + row % params.n_groups;
  let token = row / params.n_groups;
  return ((token * params.n_heads + head) * n_slices + slice) * (params.head_dim + 2u);
}
