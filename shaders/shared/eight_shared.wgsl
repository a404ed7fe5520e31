// Eight numbers that all threads of attention need: a lane reads one part in SHARERS, and gets the others from its
// neighbours. For devices that load every element by itself.

override SHARERS: u32 = 8u;  // 4 or 8; no more than the device's smallest subgroup

var<private> lane_part: u32;  // of this lane

fn begin8() {
  // Its number among the lanes, whatever threads a device puts into one subgroup.
  lane_part = subgroupExclusiveAdd(1u) % SHARERS;
}

// Of a row of q, from vec4 `at` on.
fn q8(at: u32) -> mat2x4f {
  var second = 0.0;
  if SHARERS == 4u {
    second = q_tile[at + 1u][lane_part];
  }
  return joined8(q_tile[at + lane_part / 4u][lane_part % 4u], second);
}

// Of the probabilities, from number `at` on.
fn p8(at: u32) -> mat2x4f {
  var second = 0.0;
  if SHARERS == 4u {
    second = p_tile[at + 4u + lane_part];
  }
  return joined8(p_tile[at + lane_part], second);
}

fn joined8(first: f32, second: f32) -> mat2x4f {
  let a = vec4f(
    subgroupBroadcast(first, 0u), subgroupBroadcast(first, 1u), subgroupBroadcast(first, 2u), subgroupBroadcast(first, 3u));
  if SHARERS == 4u {
    return mat2x4f(a, vec4f(
      subgroupBroadcast(second, 0u), subgroupBroadcast(second, 1u), subgroupBroadcast(second, 2u), subgroupBroadcast(second, 3u)));
  }
  return mat2x4f(a, vec4f(
    subgroupBroadcast(first, 4u), subgroupBroadcast(first, 5u), subgroupBroadcast(first, 6u), subgroupBroadcast(first, 7u)));
}
