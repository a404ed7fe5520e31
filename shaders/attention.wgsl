// Causal attention of a block of queries over a slice of the KV cache, in one pass:
// softmax(q·Kᵀ / sqrt(head_dim))·V with a running maximum and sum (online softmax).
//
// Grid: x, the key-value heads; y, blocks of ROWS query rows; z, slices of the cache. The query rows of a
// key-value head are its tokens and, within a token, its group of query heads, so that a group shares
// every read of K and V. With one slice the result is final, else attention_combine joins the slices.
// 64 positions at a time: first a thread scores one or two positions for all rows, then it sums one or two
// words of V over the positions. Several teams of threads may each take their own 64; in the end the first joins what all
// have. What all threads need, eight numbers of q or of the probabilities, comes from
// q8 and p8, in an order that k8 and order8 have too: see shared/eight_own.wgsl and shared/eight_shared.wgsl.
// What is done for every row is written out: some drivers keep an array that a loop goes through in memory.

override ROWS: u32 = 8u;        // query rows a block, at most 8
override THREADS: u32 = 64u;    // a team: 64 or, where what all need is dear, 32; at least HEAD_VECS
override TEAMS: u32 = 1u;
override WIDTH: u32 = 64u;      // THREADS · TEAMS
override P_SIZE: u32 = 512u;    // TEAMS · ROWS · TILE
override STATES: u32 = 8u;      // TEAMS · 8
override TEAM_WORDS: u32 = 1u;  // WIDTH, of several teams
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
  room: u32,       // positions that the cache has room for
  stride: u32,     // elements from one token of q, and of the output, to the next
  scale: f32,      // 1 / sqrt(head_dim)
}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> q: array<f32>;                // [n_tokens, stride]
@group(0) @binding(3) var<storage, read> k_cache: array<vec4<u32>>;    // [n_kv_heads, room, HEAD_VECS / 2]
@group(0) @binding(4) var<storage, read> v_cache: array<u32>;          // [n_kv_heads, room, HEAD_VECS · 2]
@group(0) @binding(5) var<storage, read_write> out: array<f32>;        // [n_tokens, stride]
@group(0) @binding(6) var<storage, read_write> slices: array<f32>;     // [n_heads, n_slices, head_dim + 2]

const TILE = 64u;        // cached positions at a time
const MASKED = -1e30;    // finite: no arithmetic on infinities

// A number of every row.
alias Scores = array<vec4f, 2>;
// Two dimensions of every row's result.
alias Sums = array<vec2f, 8>;

var<workgroup> p_tile: array<f32, P_SIZE>;      // [TEAMS, ROWS, TILE] scores, then probabilities
var<workgroup> part: array<f32, WIDTH>;         // [TEAMS, ROWS, THREADS / 8] parts of a row's maximum or sum
var<workgroup> row_max: array<f32, STATES>;     // [TEAMS, 8]
var<workgroup> row_sum: array<f32, STATES>;
var<workgroup> row_decay: array<f32, STATES>;   // what the old sums are worth under the new maximum
var<workgroup> team_words: array<vec2f, TEAM_WORDS>;  // [TEAMS, THREADS] a word of a row

@compute @workgroup_size(WIDTH)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) n_workgroups: vec3<u32>,
  @builtin(local_invocation_index) index: u32,
) {
  let team = select(0u, index / THREADS, TEAMS > 1u);
  let thread = index - team * THREADS;
  let p_at = team * ROWS * TILE;
  let state = team * 8u;
  let kv_head = group.x;
  let first_row = group.y * ROWS;
  let n_rows = step.n_tokens * params.n_groups;

  stage_q(kv_head, first_row, n_rows, index);
  if thread < ROWS {
    row_max[state + thread] = MASKED;
    row_sum[state + thread] = 0.0;
  }
  workgroupBarrier();

  let last_row = min(first_row + ROWS, n_rows) - 1u;
  let begin = group.z * step.slice_len;
  let end = min(begin + step.slice_len, step.pos + last_row / params.n_groups + 1u);
  var sums = array<Sums, 2>();  // words `thread` and `thread` + THREADS of V's row
  for (var first_tile = begin; first_tile < end; first_tile += TILE * TEAMS) {
    // That of a team may lie past the end.
    let tile = first_tile + team * TILE;
    // Scores.
    let near_at = k_position(kv_head, min(tile + thread, end - 1u));
    let far_at = k_position(kv_head, min(tile + THREADS + thread, end - 1u));
    // The initialiser, too, is written out: SwiftShader keeps the last round's values of a variable without one.
    var score = array<Scores, 2>();
    for (var v = 0u; v < HEAD_VECS / 2u; v++) {
      var k = array<mat2x4f, 2>();
      k[0] = k8(near_at + v);
      if THREADS < TILE {
        k[1] = k8(far_at + v);
      }
      score = with_scores(score, v, k);
    }
    for (var r = 0u; r < ROWS; r++) {
      let last_seen = min(end - 1u, step.pos + (first_row + r) / params.n_groups);
      for (var i = 0u; i < TILE / THREADS; i++) {
        let t = i * THREADS + thread;
        p_tile[p_at + r * TILE + t] = select(MASKED, score[i][r / 4u][r % 4u] * params.scale, tile + t <= last_seen);
      }
    }
    workgroupBarrier();

    // Maxima, probabilities and sums: as many threads a row as there are.
    let per_row = THREADS / 8u;
    let r = thread / per_row;
    let lane = thread % per_row;
    if r < ROWS {
      var largest = MASKED;
      for (var i = lane; i < TILE; i += per_row) {
        largest = max(largest, p_tile[p_at + r * TILE + i]);
      }
      part[index] = largest;
    }
    workgroupBarrier();
    var largest = MASKED;
    var sum = 0.0;
    if r < ROWS {
      largest = row_max[state + r];
      for (var i = 0u; i < per_row; i++) {
        largest = max(largest, part[team * THREADS + r * per_row + i]);
      }
      for (var i = lane; i < TILE; i += per_row) {
        let s = p_tile[p_at + r * TILE + i];
        let p = select(exp(s - largest), 0.0, s <= MASKED);
        p_tile[p_at + r * TILE + i] = p;
        sum += p;
      }
    }
    workgroupBarrier();
    part[index] = sum;
    workgroupBarrier();
    if r < ROWS && lane == 0u {
      let decay = exp(row_max[state + r] - largest);
      sum = row_sum[state + r] * decay;
      for (var i = 0u; i < per_row; i++) {
        sum += part[team * THREADS + r * per_row + i];
      }
      row_sum[state + r] = sum;
      row_max[state + r] = largest;
      row_decay[state + r] = decay;
    }
    workgroupBarrier();

    // Values. All threads go along, though some have no word: a subgroup needs all its lanes.
    // They go on together, too: to the first team's last position. Others' further ones have the probability 0.
    sums = with_values(sums, kv_head, min(tile, end - 1u), min(TILE, end - first_tile), end, thread, team);
    workgroupBarrier();
  }
  if TEAMS > 1u {
    sums = joined(sums, thread, team);
  }
  if team > 0u {
    return;
  }

  for (var c = 0u; c < 2u; c++) {
    let dim = 2u * (thread + c * THREADS);
    if dim < params.head_dim {
      for (var i = 0u; i < ROWS; i++) {
        if first_row + i < n_rows {
          let sum = sums[c][i];
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

// Where the keys of a position begin.
fn k_position(kv_head: u32, t: u32) -> u32 {
  return (kv_head * params.room + t) * (HEAD_VECS / 2u);
}

// The rows' scores of a thread's positions, with eight dimensions more.
fn with_scores(before: array<Scores, 2>, v: u32, k: array<mat2x4f, 2>) -> array<Scores, 2> {
  var score = before;
  let a = products(q8(0u, v), k);
  score[0][0].x += a.x;
  score[1][0].x += a.y;
  if ROWS > 1u {
    let b = products(q8(1u, v), k);
    score[0][0].y += b.x;
    score[1][0].y += b.y;
  }
  if ROWS > 2u {
    let c = products(q8(2u, v), k);
    score[0][0].z += c.x;
    score[1][0].z += c.y;
  }
  if ROWS > 3u {
    let d = products(q8(3u, v), k);
    score[0][0].w += d.x;
    score[1][0].w += d.y;
  }
  if ROWS > 4u {
    let e = products(q8(4u, v), k);
    let f = products(q8(5u, v), k);
    let g = products(q8(6u, v), k);
    let h = products(q8(7u, v), k);
    score[0][1] += vec4f(e.x, f.x, g.x, h.x);
    score[1][1] += vec4f(e.y, f.y, g.y, h.y);
  }
  return score;
}

fn products(q: mat2x4f, k: array<mat2x4f, 2>) -> vec2f {
  var scores = vec2f(dot8(q, k[0]), 0.0);
  if THREADS < TILE {
    scores.y = dot8(q, k[1]);
  }
  return scores;
}

fn dot8(a: mat2x4f, b: mat2x4f) -> f32 {
  return dot(a[0], b[0]) + dot(a[1], b[1]);
}

// The rows' sums with `n` positions from `tile` on: from `end` on the one before that again, and of words of V past the
// last, that.
fn with_values(
  before: array<Sums, 2>, kv_head: u32, tile: u32, n: u32, end: u32, word: u32, team: u32,
) -> array<Sums, 2> {
  let words = 2u * HEAD_VECS;
  let last = end - 1u - tile;
  let row_at = (kv_head * params.room + tile) * words;
  let near_at = row_at + min(word, words - 1u);
  let far_at = row_at + min(word + THREADS, words - 1u);
  let p_at = team * ROWS * TILE;
  var sums = before;
  sums[0] = decayed(sums[0], team);
  if words > THREADS {
    sums[1] = decayed(sums[1], team);
  }
  for (var j = 0u; j < n; j += 8u) {
    var v = array<array<vec2f, 8>, 2>();
    v[0] = values8(near_at, words, j, last);
    if words > THREADS {
      v[1] = values8(far_at, words, j, last);
    }
    sums = with_row(sums, p_at, 0u, j, v);
    if ROWS > 1u {
      sums = with_row(sums, p_at, 1u, j, v);
    }
    if ROWS > 2u {
      sums = with_row(sums, p_at, 2u, j, v);
    }
    if ROWS > 3u {
      sums = with_row(sums, p_at, 3u, j, v);
    }
    if ROWS > 4u {
      sums = with_row(sums, p_at, 4u, j, v);
      sums = with_row(sums, p_at, 5u, j, v);
      sums = with_row(sums, p_at, 6u, j, v);
      sums = with_row(sums, p_at, 7u, j, v);
    }
  }
  return sums;
}

fn with_row(before: array<Sums, 2>, p_at: u32, row: u32, j: u32, v: array<array<vec2f, 8>, 2>) -> array<Sums, 2> {
  var sums = before;
  let p = p8(p_at + row * TILE + j);
  sums[0][row] += sum8(p, v[0]);
  if 2u * HEAD_VECS > THREADS {
    sums[1][row] += sum8(p, v[1]);
  }
  return sums;
}

// Under the new maxima.
fn decayed(sums: Sums, team: u32) -> Sums {
  let at = team * 8u;
  return Sums(
    row_decay[at] * sums[0], row_decay[at + 1u] * sums[1], row_decay[at + 2u] * sums[2], row_decay[at + 3u] * sums[3],
    row_decay[at + 4u] * sums[4], row_decay[at + 5u] * sums[5], row_decay[at + 6u] * sums[6],
    row_decay[at + 7u] * sums[7]);
}

// What all teams have, for the first; its maxima and sums too. A row at a time.
fn joined(before: array<Sums, 2>, thread: u32, team: u32) -> array<Sums, 2> {
  if thread < ROWS {
    var largest = MASKED;
    for (var other = 0u; other < TEAMS; other++) {
      largest = max(largest, row_max[8u * other + thread]);
    }
    row_decay[8u * team + thread] = exp(row_max[8u * team + thread] - largest);
  }
  workgroupBarrier();
  if team == 0u && thread < ROWS {
    var largest = MASKED;
    var sum = 0.0;
    for (var other = 0u; other < TEAMS; other++) {
      largest = max(largest, row_max[8u * other + thread]);
      sum += row_decay[8u * other + thread] * row_sum[8u * other + thread];
    }
    row_max[thread] = largest;
    row_sum[thread] = sum;
  }
  var sums = before;
  for (var c = 0u; c < 2u; c++) {
    if c * THREADS < 2u * HEAD_VECS {
      sums[c] = decayed(sums[c], team);
      for (var row = 0u; row < ROWS; row++) {
        team_words[team * THREADS + thread] = sums[c][row];
        workgroupBarrier();
        var sum = vec2f(0.0);
        for (var other = 0u; other < TEAMS; other++) {
          sum += team_words[other * THREADS + thread];
        }
        sums[c][row] = sum;
        workgroupBarrier();
      }
    }
  }
  return sums;
}

// A word of V, two numbers, of eight positions; past the last that again.
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
