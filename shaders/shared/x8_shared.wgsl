// Eight of x for rows.wgsl: a lane loads one part in SHARERS, and gets the others from its neighbours.

// Weighed by the norm, and of this lane's part the sum of the squares before.
struct X8 {
  x: mat2x4f,
  square: f32,
}

// This lane's part of the norm's weights.
alias G8 = vec2f;

// Of the norm's weights, from vec4 `at` on.
fn norm8(at: u32) -> G8 {
  var g = G8(1.0);
  if params.has_norm != 0u {
    g.x = tables[params.norm_at + at + lane_part / 4u][lane_part % 4u];
    if SHARERS == 4u {
      g.y = tables[params.norm_at + at + 1u][lane_part];
    }
  }
  return g;
}

// From vec4 `at` of x on.
fn load8(at: u32, g: G8) -> X8 {
  var v = vec2f(x[at + lane_part / 4u][lane_part % 4u], 0.0);
  if SHARERS == 4u {
    v.y = x[at + 1u][lane_part];
  }
  return X8(all8(v * g), dot(v, v));
}

// The sum over the lanes' parts.
fn joined4(v: vec4f) -> vec4f {
  var sum = subgroupBroadcast(v, 0u) + subgroupBroadcast(v, 1u) + subgroupBroadcast(v, 2u) + subgroupBroadcast(v, 3u);
  if SHARERS == 8u {
    sum += subgroupBroadcast(v, 4u) + subgroupBroadcast(v, 5u) + subgroupBroadcast(v, 6u) + subgroupBroadcast(v, 7u);
  }
  return sum;
}
