// What this browser's WebGPU has and wgpu does not use on the web: subgroups, language features, and pipelines that
// are compiled while other things go on.

/** What to tell the engine when it opens the device. */
export interface Features {
  subgroups: boolean;
  packedDot: boolean;
}

/** Opens devices through `open`, with subgroups where the adapter has them; `onDevice` gets each. */
export async function openDevice<T>(
  { powerPreference, features }: { powerPreference?: GPUPowerPreference; features?: 'none' | 'auto' },
  open: (offered: Features) => Promise<T>,
  onDevice?: (device: GPUDevice) => void,
): Promise<T> {
  const gpu: GPU | undefined = navigator.gpu;
  const adapter = features === 'none' ? null : await gpu?.requestAdapter({ powerPreference: powerPreference ?? 'high-performance' }).catch(() => null);
  const subgroups = adapter?.features.has('subgroups') ?? false;
  const packedDot = gpu?.wgslLanguageFeatures?.has('packed_4x8_integer_dot_product') ?? false;
  if (!gpu) return open({ subgroups, packedDot });
  // The prototype belongs to everyone in this worker: it is as before as soon as the device is there.
  const prototype = GPUAdapter.prototype;
  const { requestDevice } = prototype;
  prototype.requestDevice = async function (this: GPUAdapter, descriptor: GPUDeviceDescriptor = {}) {
    const requiredFeatures = [...(descriptor.requiredFeatures ?? []), ...(subgroups ? (['subgroups'] as const) : [])];
    const device = await requestDevice.call(this, { ...descriptor, requiredFeatures });
    onDevice?.(device);
    return device;
  };
  try {
    return await open({ subgroups, packedDot });
  } finally {
    prototype.requestDevice = requestDevice;
  }
}

/** Stands for a pipeline until it is compiled. */
class Pipeline {
  compiled: GPUComputePipeline | undefined;

  constructor(private readonly compileNow: () => GPUComputePipeline) {}

  /** Compiled now where it is used before it is ready, and where compiling it failed: errors are looked for there. */
  get(): GPUComputePipeline {
    return (this.compiled ??= this.compileNow());
  }
}

/**
 * Compiles a device's pipelines while other things go on: `createComputePipeline` returns at once. Else a browser's GPU
 * process does nothing but compile, for up to seconds, in which no page is drawn and no weight arrives.
 */
export class Compiler {
  private readonly underWay = new Set<Promise<unknown>>();

  take(device: GPUDevice): void {
    const { createComputePipeline } = device;
    device.createComputePipeline = (descriptor) => {
      const pipeline = new Pipeline(() => createComputePipeline.call(device, descriptor));
      const compiled = device
        .createComputePipelineAsync(descriptor)
        .then((found) => void (pipeline.compiled ??= found), () => undefined)
        .finally(() => this.underWay.delete(compiled));
      this.underWay.add(compiled);
      return pipeline as unknown as GPUComputePipeline;
    };
    const prototype = GPUComputePassEncoder.prototype;
    const { setPipeline } = prototype;
    prototype.setPipeline = function (this: GPUComputePassEncoder, pipeline: GPUComputePipeline | Pipeline) {
      return setPipeline.call(this, pipeline instanceof Pipeline ? pipeline.get() : pipeline);
    };
  }

  /** Resolves once all that is being compiled is there; undefined where nothing is. */
  compiling(): Promise<unknown> | undefined {
    return this.underWay.size === 0 ? undefined : Promise.all(this.underWay);
  }
}
