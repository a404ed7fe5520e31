// As many bytes as the device can read, and write as many: a vec4 a thread, which measures a ceiling.
//
// Grid: x, workgroups of 256 threads.

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) thread: vec3<u32>) {
  y[thread.x] = x[thread.x];
}
