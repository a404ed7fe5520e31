// Without subgroups every lane of matvec keeps what it summed.
fn in_subgroup(y: mat4x2f) -> mat4x2f {
  return y;
}

fn in_subgroup4(v: vec4f) -> vec4f {
  return v;
}
