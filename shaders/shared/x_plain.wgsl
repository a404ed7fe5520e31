// x as it is, in f32, and the weights of the norm.
@group(0) @binding(2) var<storage, read> x: array<vec4f>;     // [n_tokens, x_stride]
@group(0) @binding(3) var<storage, read> norm: array<vec4f>;  // [x_stride], unread without NORM
