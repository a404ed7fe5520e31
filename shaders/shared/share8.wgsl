// Eight numbers that all threads need: a lane of a subgroup reads one part in SHARERS, and gets the others from its
// neighbours. For devices that load every element by itself.

override SHARERS: u32 = 8u;  // 4 or 8; no more than the device's smallest subgroup

var<private> lane_part: u32;  // of this lane: number `lane_part` and, of four, `lane_part` + 4

fn begin8() {
  // Its number among the lanes, whatever threads a device puts into one subgroup.
  lane_part = subgroupExclusiveAdd(1u) % SHARERS;
}

// All eight, of this lane's one or two.
fn all8(own: vec2f) -> mat2x4f {
  if SHARERS == 4u {
    // In two steps, for `SwiftShader`, which broadcasts by looking at all lanes: each pair's two, then the other pair's.
    let is_odd = (lane_part & 1u) == 1u;
    let is_late = (lane_part & 2u) == 2u;
    let beside = quadSwapX(own);
    let even = select(own, beside, is_odd);
    let odd = select(beside, own, is_odd);
    let other_even = quadSwapY(even);
    let other_odd = quadSwapY(odd);
    let a = select(even, other_even, is_late);
    let b = select(odd, other_odd, is_late);
    let c = select(other_even, even, is_late);
    let d = select(other_odd, odd, is_late);
    return mat2x4f(vec4f(a.x, b.x, c.x, d.x), vec4f(a.y, b.y, c.y, d.y));
  }
  return mat2x4f(
    subgroupBroadcast(own.x, 0u), subgroupBroadcast(own.x, 1u), subgroupBroadcast(own.x, 2u), subgroupBroadcast(own.x, 3u),
    subgroupBroadcast(own.x, 4u), subgroupBroadcast(own.x, 5u), subgroupBroadcast(own.x, 6u), subgroupBroadcast(own.x, 7u));
}

// All eight in an order of the lane's own where that is cheaper: this lane's first one, the one beside it, the one below
// it, the one across; then the second ones.
fn near8(own: vec2f) -> mat2x4f {
  if SHARERS == 4u {
    return mat2x4f(near4(own.x), near4(own.y));
  }
  return all8(own);
}

fn near4(own: f32) -> vec4f {
  return vec4f(own, quadSwapX(own), quadSwapY(own), quadSwapDiagonal(own));
}

// Which of eight the first four of near8 are, and less 4 the others.
fn order8() -> vec4<u32> {
  return select(vec4<u32>(0u), vec4<u32>(lane_part), SHARERS == 4u) ^ vec4<u32>(0u, 1u, 2u, 3u);
}
