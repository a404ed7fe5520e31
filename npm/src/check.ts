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
  return { ok: true, adapter: describe(adapter), fits: fits(bytes) };
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

/** The weights, the cache and the activations take about a fifth more than the file; `deviceMemory` is in GiB, at most 8. */
function fits(bytes: number | undefined): NonNullable<Check['fits']> {
  const { deviceMemory } = navigator as { deviceMemory?: number };
  if (bytes === undefined || deviceMemory === undefined) return 'unknown';
  return bytes * 1.2 < deviceMemory * 2 ** 30 ? 'likely' : 'unlikely';
}
