// What this browser's WebGPU has that the engine can use but cannot ask for: wgpu knows no subgroups on the web, and
// sees no language features.

/** What to tell the engine when it opens the device. */
export interface Features {
  subgroups: boolean;
  packedDot: boolean;
}

/** Opens a device through `open`, with subgroups where the adapter has them. */
export async function withFeatures<T>(
  { powerPreference, features }: { powerPreference?: GPUPowerPreference; features?: 'none' | 'auto' },
  open: (offered: Features) => Promise<T>,
): Promise<T> {
  const gpu: GPU | undefined = navigator.gpu;
  const adapter = features === 'none' ? null : await gpu?.requestAdapter({ powerPreference: powerPreference ?? 'high-performance' }).catch(() => null);
  const subgroups = adapter?.features.has('subgroups') ?? false;
  const packedDot = gpu?.wgslLanguageFeatures?.has('packed_4x8_integer_dot_product') ?? false;
  if (!subgroups) return open({ subgroups, packedDot });
  // The prototype belongs to everyone in this worker: it is as before as soon as the device is there.
  const prototype = GPUAdapter.prototype;
  const { requestDevice } = prototype;
  prototype.requestDevice = function (this: GPUAdapter, descriptor: GPUDeviceDescriptor = {}) {
    return requestDevice.call(this, { ...descriptor, requiredFeatures: [...(descriptor.requiredFeatures ?? []), 'subgroups'] });
  };
  try {
    return await open({ subgroups, packedDot });
  } finally {
    prototype.requestDevice = requestDevice;
  }
}
