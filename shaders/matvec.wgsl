// y = W·x for few tokens, a pair of rows at a time, with RMSNorm fused in:
// W·(g ⊙ x / rms(x)) = (Σ w·g·x) / sqrt(Σ x² / cols + eps), so one pass gathers both sums.
//
// Grid: x, GROUPS row pairs a workgroup; z, the tokens. The LANES threads of a group take the chunks of
// its two rows in turn, so that neighbours load neighbouring 16 bytes.

override LANES: u32 = 32u;    // threads a row pair, a power of two
override GROUPS: u32 = 2u;    // row pairs a workgroup
override THREADS: u32 = 64u;  // LANES · GROUPS
override NORM: bool = false;

var<workgroup> partial: array<vec4f, 256>;  // y of either row, Σ x²

@compute @workgroup_size(LANES, GROUPS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) thread: vec3<u32>) {
  let token = group.z;
  let pair = group.x * GROUPS + thread.y;
  // The last workgroup's spare groups repeat the last pair: they must still reach every barrier.
  let rows = pair_rows(min(pair, params.n_pairs - 1u));
  let x_row = (step.first_token + token) * params.x_stride;

  var y = vec2f(0.0);
  var square = 0.0;
  for (var chunk = thread.x; chunk < params.n_chunks; chunk += LANES) {
    for (var i = 0u; i < 2u; i++) {
      let half = 2u * chunk + i;
      let at = 4u * half;
      var x0 = x[x_row + at];
      var x1 = x[x_row + at + 1u];
      var x2 = x[x_row + at + 2u];
      var x3 = x[x_row + at + 3u];
      if NORM {
        square += dot(x0, x0) + dot(x1, x1) + dot(x2, x2) + dot(x3, x3);
        x0 *= norm[at];
        x1 *= norm[at + 1u];
        x2 *= norm[at + 2u];
        x3 *= norm[at + 3u];
      }
      let x_sum = dot(x0 + x1 + x2 + x3, vec4f(1.0));
      let a = weights16(rows.x, half);
      let b = weights16(rows.y, half);
      y += vec2f(
        a.scale * (dot(a.q[0], x0) + dot(a.q[1], x1) + dot(a.q[2], x2) + dot(a.q[3], x3)) + a.offset * x_sum,
        b.scale * (dot(b.q[0], x0) + dot(b.q[1], x1) + dot(b.q[2], x2) + dot(b.q[3], x3)) + b.offset * x_sum);
    }
  }

  let slot = thread.y * LANES + thread.x;
  partial[slot] = vec4f(y, square, 0.0);
  for (var n = LANES / 2u; n > 0u; n /= 2u) {
    workgroupBarrier();
    if thread.x < n {
      partial[slot] += partial[slot + n];
    }
  }
  if thread.x == 0u && pair < params.n_pairs {
    let sum = partial[slot];
    let scale = select(1.0, inverseSqrt(sum.z / f32(params.cols) + params.eps), NORM);
    store_pair(token, pair, sum.xy * scale);
  }
}
