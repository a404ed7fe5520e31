// What loading certain weights would take, from their headers alone: the answer of `Helium.check`.

import { check, fits } from './check.js';
import { HeliumError, toWire } from './errors.js';
import { addressOf, HUB, list, unsharded, type HubFile } from './hub.js';
import { Files } from './open.js';
import type { WireLoad } from './options.js';
import { resolveSource, type Part, type Source } from './source.js';
import type { Check, HubWeights, Plan } from './types.js';
import { ModelPlan } from './wasm/helium.js';

/** The first look at a file: enough for the header of most safetensors files. */
const FIRST_LOOK = 256 << 10;
/** No header is longer: a vocabulary takes some MiB. */
const LONGEST_HEADER = 128 << 20;
/** Smaller files of a repository whose headers are looked at. */
const MOST_LOOKS = 3;

/** What a plan needs to know of an adapter. */
type Device = { limits: Limits; software: boolean };
type Limits = { maxBufferSize: number; maxStorageBufferBindingSize: number };
/** WebGPU guarantees these to every device. */
const DEFAULT_LIMITS: Limits = { maxBufferSize: 256 << 20, maxStorageBufferBindingSize: 128 << 20 };

export async function checkWeights(options: WireLoad): Promise<Check> {
  const { powerPreference } = options.gpu;
  const found = await check(powerPreference === undefined ? {} : { powerPreference });
  if (!found.ok || !found.adapter) return found;
  const device = { limits: options.gpu.limits === 'default' ? DEFAULT_LIMITS : (found.adapter.limits as Limits), software: found.adapter.software };
  const result: Check = { ok: true, adapter: found.adapter, fits: 'unknown' };
  let bytes: number | undefined;
  try {
    const source = await resolveSource(options, options.means, 'headers');
    result.download = await downloadOf(source.parts);
    ({ bytes } = result.download);
    result.model = await planOf(source, options, device);
    result.fits = fits(result.model.gpuBytes);
    if (result.fits !== 'unlikely') return result;
  } catch (error) {
    const { code, message } = toWire(error);
    Object.assign(result, { ok: false, code, message });
    if (code !== 'out-of-memory') return result;
    result.fits = 'no';
  }
  if (!Array.isArray(options.weights)) result.smaller = await smallerThan(bytes ?? Infinity, options.weights, options, device, result.model);
  return result;
}

async function planOf({ parts, configJson }: Source, { contextLength, quantize }: WireLoad, device: Device): Promise<Plan> {
  const plan = new ModelPlan({
    ...(contextLength !== undefined && { contextLength }),
    ...(quantize !== undefined && { quantize }),
    ...(configJson !== undefined && { configJson }),
    ...device,
  });
  try {
    for (const part of parts) {
      let head = new Uint8Array();
      for (let needed = FIRST_LOOK; needed > 0; ) {
        if (needed > LONGEST_HEADER) throw new HeliumError('corrupt', `${part.name}: its header would take ${needed} bytes, which no model's does`);
        const more = await part.read(head.length, needed);
        const longer = new Uint8Array(head.length + more.length);
        longer.set(head);
        longer.set(more, head.length);
        head = longer;
        needed = plan.addFile(part.name, head, part.size);
        if (needed > 0 && more.length === 0) throw new HeliumError('corrupt', `${part.name}: ends after ${head.length} bytes, within its header`);
        // In doubling steps, for a header does not tell how long it is.
        if (needed > 0) needed = Math.max(needed, head.length * 2);
      }
    }
    return plan.finish() as Plan;
  } finally {
    plan.free();
  }
}

async function downloadOf(parts: Part[]): Promise<NonNullable<Check['download']>> {
  const sizes = parts.map((part) => part.size);
  const kept = await Promise.all(parts.map((part) => part.kept()));
  const estimate = await navigator.storage?.estimate().catch(() => undefined);
  const download: NonNullable<Check['download']> = { cached: kept.reduce((total, bytes) => total + bytes, 0) };
  if (!sizes.includes(undefined)) download.bytes = (sizes as number[]).reduce((total, size) => total + size, 0);
  if (estimate?.quota !== undefined) download.quotaBytes = Math.max(0, estimate.quota - (estimate.usage ?? 0));
  return download;
}

/** The GGUF files of a repository that are expected to fit: the largest ones' headers are looked at. */
async function smallerThan(bytes: number, weights: HubWeights, options: WireLoad, device: Device, plan: Plan | undefined): Promise<NonNullable<Check['smaller']>> {
  const hub = options.means.hub ?? HUB;
  const files = new Files({ headers: options.headers, origin: new URL(hub).origin, ...options.means });
  const listing = await list(hub, weights, undefined, files).catch((): HubFile[] => []);
  const candidates = listing
    .filter(({ path, size }) => /\.gguf$/i.test(path) && unsharded(path) === path && size !== undefined && size < bytes)
    .map(({ path, size }) => ({ file: path, bytes: size! }))
    .sort((a, b) => b.bytes - a.bytes)
    // What is not weights stays as large as it is.
    .filter((each) => fits(plan ? plan.gpuBytes - plan.weightBytes + each.bytes : each.bytes * 1.2) !== 'unlikely');
  for (const [nth, { file, bytes: size }] of candidates.slice(0, MOST_LOOKS).entries()) {
    const url = addressOf(hub, weights, file);
    const part: Pick<Part, 'name' | 'size' | 'read'> = { name: file, size, read: (from, to) => files.read(url, from, to) };
    try {
      const found = await planOf({ parts: [part as Part], notes: new Set() }, options, device);
      if (fits(found.gpuBytes) !== 'unlikely') return candidates.slice(nth);
    } catch {
      // that one does not fit either, or is something else
    }
  }
  return [];
}
