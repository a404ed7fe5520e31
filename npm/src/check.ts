// What this browser's WebGPU offers, without loading anything.

import type { AdapterInfo, Check, GpuOptions } from './types.js';

/** Names that software renderers give themselves. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|basic render/i;

export async function check({ bytes, ...request }: { bytes?: number } & Pick<GpuOptions, 'powerPreference'> = {}): Promise<Check> {
  const gpu: GPU | undefined = navigator.gpu;
  if (gpu === undefined) {
    const message = globalThis.isSecureContext
      ? 'this browser has no WebGPU, or it is switched off'
      : 'WebGPU is offered only to pages served over https or from localhost';
    return { ok: false, code: 'no-webgpu', message };
  }
  const adapter = await gpu.requestAdapter(request).catch(() => null);
  if (adapter === null) {
    return { ok: false, code: 'no-adapter', message: 'this browser has WebGPU but offers no graphics adapter: its driver may be blocked or missing' };
  }
  if (!adapter.info) return { ok: false, code: 'no-webgpu', message: "this browser's WebGPU is older than what is needed: Chrome or Edge 127, say" };
  // The weights, the cache and the activations take about a fifth more than the file.
  return { ok: true, adapter: describe(adapter), fits: fits(bytes === undefined ? undefined : bytes * 1.2) };
}

function describe(adapter: GPUAdapter): AdapterInfo {
  const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info;
  const name = description || [vendor, architecture || device].filter(Boolean).join(' ') || 'unnamed adapter';
  const limits: Record<string, number> = {};
  for (const key in adapter.limits) {
    const value = adapter.limits[key as keyof GPUSupportedLimits];
    if (typeof value === 'number') limits[key] = value;
  }
  return {
    name,
    backend: 'webgpu',
    software: isFallbackAdapter || SOFTWARE.test(`${vendor} ${architecture} ${description}`),
    features: [...adapter.features].sort(),
    limits,
  };
}

/** Whether so many bytes fit in the GPU's memory, judged by the device's: `deviceMemory` is in GiB, and at most 8. */
export function fits(gpuBytes: number | undefined): 'likely' | 'unlikely' | 'unknown' {
  const { deviceMemory } = navigator as { deviceMemory?: number };
  if (gpuBytes === undefined || deviceMemory === undefined) return 'unknown';
  // A device that has the most that browsers tell may have more.
  if (deviceMemory >= 8 && gpuBytes >= deviceMemory * 2 ** 30) return 'unknown';
  return gpuBytes < deviceMemory * 2 ** 30 ? 'likely' : 'unlikely';
}
