// x as it is, in f32.
@group(0) @binding(2) var<storage, read> x: array<vec4f>;  // [n_tokens, x_stride]
