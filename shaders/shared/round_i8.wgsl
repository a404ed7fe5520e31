// Half a chunk of x in signed bytes: x ≈ scale · byte, with scale = max |x| / 127.

struct Rounded16 {
  q: vec4<u32>,
  scale: f32,
  sum: f32,     // of the rounded numbers, so that an offset errs as little as the rest
}

fn round16(a: vec4f, b: vec4f, c: vec4f, d: vec4f) -> Rounded16 {
  let m = max(max(abs(a), abs(b)), max(abs(c), abs(d)));
  let largest = max(max(m.x, m.y), max(m.z, m.w));
  let inverse = select(0.0, 127.0 / largest, largest > 1e-30);
  let q = vec4<u32>(round4(a * inverse), round4(b * inverse), round4(c * inverse), round4(d * inverse));
  const ONES = 0x01010101u;
  let sum = dot4I8Packed(q.x, ONES) + dot4I8Packed(q.y, ONES) + dot4I8Packed(q.z, ONES) + dot4I8Packed(q.w, ONES);
  let scale = largest / 127.0;
  return Rounded16(q, scale, scale * f32(sum));
}

fn round4(v: vec4f) -> u32 {
  return pack4xI8(vec4<i32>(round(v)));
}
