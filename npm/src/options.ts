// Options as callers write them → options as the worker takes them. Every complaint names the option,
// what was expected and what was found, before anything is downloaded.

import { HeliumError } from './errors.js';
import type { Means } from './source.js';
import type { BenchOptions, CheckOptions, GenerateOptions, GpuOptions, HubWeights, LoadOptions, ScoreOptions } from './types.js';

/** `LoadOptions` as a message: absolute URLs, no functions, no signal. */
export interface WireLoad {
  weights: string[] | Blob[] | HubWeights;
  tokenizer?: string | Blob;
  headers: Record<string, string>;
  sha256?: string[];
  cache: boolean;
  contextLength?: number;
  quantize?: 'q8_0' | 'q4_0' | 'q4_k_m' | 'q6_k' | 'f16';
  gpu: GpuOptions;
  /** What an earlier load found out about this device. */
  tuning?: string;
  means: Means;
}

/** Whether weights are files from disk. */
export function isFiles(weights: WireLoad['weights']): weights is Blob[] {
  return Array.isArray(weights) && weights[0] instanceof Blob;
}

/** Where this package's own tests put a `Means` among the options. No other use is meant. */
const MEANS = Symbol.for('helium-webgpu.means');

type Rule = (value: unknown) => string | undefined;

/** At most this many alternatives a token: more would cost more than the token. */
const MOST_TOP = 20;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const shown = (value: unknown): string => {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (Array.isArray(value)) return `an array of ${value.length}`;
  return isRecord(value) ? 'an object' : String(value);
};

function bad(option: string, expected: string, found: unknown): never {
  throw new HeliumError('invalid-argument', `${option}: expected ${expected}, found ${shown(found)}`);
}

const integer = (low: number, high = Number.MAX_SAFE_INTEGER): Rule => (value) =>
  Number.isSafeInteger(value) && (value as number) >= low && (value as number) <= high
    ? undefined
    : high === Number.MAX_SAFE_INTEGER ? `a whole number of at least ${low}` : `a whole number from ${low} to ${high}`;

const number = (low: number, high: number): Rule => (value) =>
  typeof value === 'number' && value >= low && value <= high
    ? undefined
    : high === Number.MAX_VALUE ? `a number of at least ${low}` : `a number from ${low} to ${high}`;

const oneOf = (...words: string[]): Rule => (value) =>
  words.includes(value as string) ? undefined : `one of ${words.map((word) => `"${word}"`).join(', ')}`;

const text: Rule = (value) => (typeof value === 'string' && value !== '' ? undefined : 'a text that is not empty');

/** Applies a rule to each named option; complains about names that have none. Leaves out what is undefined. */
function pick(what: string, given: unknown, rules: Record<string, Rule>): Record<string, unknown> {
  if (given === undefined) return {};
  if (!isRecord(given)) bad(what, 'an object', given);
  const picked: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const rule = rules[name];
    if (rule === undefined) {
      throw new HeliumError('invalid-argument', `${what}: unknown option "${name}"; known are ${Object.keys(rules).join(', ')}`);
    }
    const expected = rule(value);
    if (expected !== undefined) bad(name, expected, value);
    picked[name] = value;
  }
  return picked;
}

const any: Rule = () => undefined;
const signal: Rule = (value) => (value instanceof AbortSignal ? undefined : 'an AbortSignal');

const generateRules: Record<string, Rule> = {
  maxTokens: integer(0),
  temperature: number(0, Number.MAX_VALUE),
  topK: integer(0),
  topP: number(0, 1),
  minP: number(0, 1),
  repetitionPenalty: (value) => (typeof value === 'number' && value > 0 && value < Infinity ? undefined : 'a number above 0'),
  presencePenalty: number(-Number.MAX_VALUE, Number.MAX_VALUE),
  frequencyPenalty: number(-Number.MAX_VALUE, Number.MAX_VALUE),
  logitBias: (value) =>
    isRecord(value) && Object.entries(value).every(([id, bias]) => /^\d+$/.test(id) && typeof bias === 'number' && !Number.isNaN(bias))
      ? undefined
      : 'an object from token ids to numbers',
  seed: integer(0),
  stop: (value) =>
    (Array.isArray(value) ? value : [value]).every((stop) => text(stop) === undefined) ? undefined : 'a text or texts, none empty',
  logprobs: integer(0, MOST_TOP),
  signal,
};

const isId: (value: unknown) => boolean = (value) => integer(0, 0xffff_ffff)(value) === undefined;

/** Token ids, as the engine takes them. */
export function checkIds(name: string, ids: unknown): Uint32Array {
  const list = typeof ids === 'object' && ids !== null && 'length' in ids ? Array.from(ids as ArrayLike<unknown>) : bad(name, 'token ids', ids);
  const wrong = list.findIndex((id) => !isId(id));
  return wrong < 0 ? Uint32Array.from(list as number[]) : bad(`${name}[${wrong}]`, 'a token id', list[wrong]);
}

/** A prompt as the engine takes it. */
export function checkPrompt(prompt: unknown): string | Uint32Array {
  if (typeof prompt === 'string') return prompt;
  if (typeof prompt !== 'object' || prompt === null) bad('prompt', 'a text or token ids', prompt);
  return checkIds('prompt', prompt);
}

/** Checked generation options without the signal, as the engine takes them: lists of stop texts and of (id, bias). */
export function checkGenerate(prompt: unknown, options: GenerateOptions | undefined): object {
  checkPrompt(prompt);
  const { signal: _, stop, logitBias, ...checked } = pick('generate options', options, generateRules);
  if (stop !== undefined) checked['stop'] = Array.isArray(stop) ? stop : [stop];
  if (logitBias !== undefined) checked['logitBias'] = Object.entries(logitBias as object).map(([id, bias]) => [Number(id), bias]);
  return checked;
}

export function checkScore(text: unknown, options: ScoreOptions | undefined): { text: string; top: number } {
  if (typeof text !== 'string') bad('text', 'a text', text);
  const { top } = pick('score options', options, { top: integer(0, MOST_TOP), signal });
  return { text, top: (top as number | undefined) ?? 0 };
}

export function checkBench(options: BenchOptions | undefined): object {
  return pick('bench options', options, {
    promptTokens: integer(1),
    decodeTokens: integer(1),
    runs: integer(1),
    trace: (value) => (typeof value === 'boolean' ? undefined : 'true or false'),
  });
}

const loadRules: Record<string, Rule> = {
  weights: any,
  tokenizer: any,
  onProgress: (value) => (typeof value === 'function' ? undefined : 'a function'),
  signal,
  headers: (value) =>
    isRecord(value) && Object.values(value).every((header) => typeof header === 'string') ? undefined : 'an object of texts',
  sha256: (value) =>
    (Array.isArray(value) ? value : [value]).every((sum) => typeof sum === 'string' && /^[0-9a-f]{64}$/i.test(sum))
      ? undefined
      : '64 hexadecimal digits (for shards, an array of them)',
  cache: (value) => (typeof value === 'boolean' ? undefined : 'true or false'),
  contextLength: integer(1),
  quantize: oneOf('q8_0', 'q4_0', 'q4_k_m', 'q6_k', 'f16'),
  gpu: (value) => (isRecord(value) ? undefined : 'an object'),
};

const checkRules: Record<string, Rule> = {
  bytes: number(0, Number.MAX_VALUE),
  ...Object.fromEntries(['weights', 'headers', 'cache', 'contextLength', 'quantize', 'gpu'].map((name) => [name, loadRules[name]!])),
};

const gpuRules: Record<string, Rule> = {
  powerPreference: oneOf('low-power', 'high-performance'),
  limits: oneOf('default', 'adapter'),
  features: oneOf('none', 'auto'),
  kernels: oneOf('auto', 'exact', 'rounded', 'baseline'),
};

const hubRules: Record<string, Rule> = {
  repo: (value) => (typeof value === 'string' && /^[\w.-]+\/[\w.-]+$/.test(value) ? undefined : '"owner/name"'),
  file: text,
  quant: (value) => (typeof value === 'string' && /^\w+$/.test(value) ? undefined : 'a quantisation such as "Q4_K_M"'),
  revision: text,
};

function absolute(option: string, url: string | URL, base: string): string {
  let parsed: URL;
  try {
    parsed = new URL(url, base);
  } catch {
    bad(option, 'a URL', String(url));
  }
  if (!/^(https?|blob|data):$/.test(parsed.protocol)) bad(option, 'an http(s), blob or data URL', parsed.href);
  return parsed.href;
}

export function checkWeights(weights: unknown, base: string): WireLoad['weights'] {
  if (typeof weights === 'string' && weights !== '') return [absolute('weights', weights, base)];
  if (weights instanceof URL) return [absolute('weights', weights, base)];
  if (weights instanceof Blob) return [weights];
  if (Array.isArray(weights) && weights.length > 0 && weights.every((url) => typeof url === 'string')) {
    return weights.map((url: string) => absolute('weights', url, base));
  }
  if (Array.isArray(weights) && weights.length > 0 && weights.every((file) => file instanceof Blob)) return weights as Blob[];
  if (isRecord(weights)) {
    const hub = pick('weights', weights, hubRules);
    if (hub['repo'] === undefined) bad('weights', '{ repo, file } or { repo, quant }', weights);
    if ((hub['file'] === undefined) === (hub['quant'] === undefined)) {
      throw new HeliumError('invalid-argument', `weights: name either a file or a quant of ${String(hub['repo'])}`);
    }
    return hub as HubWeights;
  }
  return bad('weights', 'a URL, an array of URLs, a File or Files, or { repo, file } or { repo, quant }', weights);
}

/** Checked load options; relative URLs are resolved against `base`, the page's own address. */
export function checkLoad(options: LoadOptions, base: string): WireLoad {
  const given = pick('load options', options, loadRules) as Partial<LoadOptions>;
  const wire: WireLoad = {
    weights: checkWeights(given.weights, base),
    headers: given.headers ?? {},
    cache: given.cache ?? true,
    gpu: pick('gpu', given.gpu, gpuRules),
    means: (options as { [MEANS]?: Means })[MEANS] ?? {},
  };

  const { tokenizer, sha256, contextLength, quantize } = given;
  if (tokenizer instanceof Blob) wire.tokenizer = tokenizer;
  else if (typeof tokenizer === 'string' || tokenizer instanceof URL) wire.tokenizer = absolute('tokenizer', tokenizer, base);
  else if (tokenizer !== undefined) bad('tokenizer', 'a URL or a File', tokenizer);

  if (sha256 !== undefined) wire.sha256 = (Array.isArray(sha256) ? sha256 : [sha256]).map((sum) => sum.toLowerCase());
  if (contextLength !== undefined) wire.contextLength = contextLength;
  if (quantize !== undefined) wire.quantize = quantize;
  return wire;
}

/** Checked options of `Helium.check`; with weights, they are those of a load. */
export function checkCheck(options: CheckOptions | undefined, base: string): { bytes?: number; gpu: GpuOptions; load?: WireLoad } {
  const { bytes, ...given } = pick('check options', options, checkRules) as CheckOptions;
  const gpu = pick('gpu', given.gpu, gpuRules) as GpuOptions;
  const checked: { bytes?: number; gpu: GpuOptions; load?: WireLoad } = bytes === undefined ? { gpu } : { bytes, gpu };
  if (given.weights !== undefined) {
    const means = (options as { [MEANS]?: Means })[MEANS];
    checked.load = checkLoad({ ...given, weights: given.weights, ...(means && { [MEANS]: means }) }, base);
  }
  return checked;
}
