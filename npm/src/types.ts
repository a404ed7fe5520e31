// The public types: what goes into and comes out of `Helium`.

import type { HeliumErrorCode } from './errors.js';

/** A file in a repository of the model hub: by name, or a GGUF by its quantisation (`'Q4_K_M'`). */
export type HubWeights = { repo: string; revision?: string } & (
  | { file: string; quant?: never }
  | { quant: string; file?: never }
);

/** What to ask the GPU for. The defaults are right for nearly everyone. */
export interface GpuOptions {
  powerPreference?: 'low-power' | 'high-performance';
  /** `'adapter'`: whatever the adapter offers; `'default'`: WebGPU's guaranteed minimum. */
  limits?: 'default' | 'adapter';
  /** `'auto'`: use optional features where present; `'none'`: none of them. */
  features?: 'none' | 'auto';
  /**
   * `'auto'`: the fastest kernels on this device, as measured once; `'exact'`: the fastest of those that do not round
   * activations; `'rounded'`: those that round them to eight bits; `'baseline'`: those that every device has.
   */
  kernels?: 'auto' | 'exact' | 'rounded' | 'baseline';
}

/** Where a model's weights come from. */
export type Weights = string | URL | string[] | Blob | Blob[] | HubWeights;

export interface LoadOptions {
  /**
   * A GGUF file, a `.safetensors` file or a `.safetensors.index.json` by URL; shards in order; a file or
   * files from disk, a folder's config.json and tokenizer.json among them; or a file in a hub repository.
   * Beside safetensors, config.json is read as well.
   */
  weights: Weights;
  /** A tokenizer.json. Without it: the one beside the weights, or the GGUF's own vocabulary. */
  tokenizer?: string | URL | Blob;
  /** Called about ten times a second while loading, and at each change of phase. */
  onProgress?: (progress: Progress) => void;
  /** Stops loading and frees what was loaded; `load` then rejects with code `aborted`. */
  signal?: AbortSignal;
  /** Sent with requests to the origin of the weights, and to no other. */
  headers?: Record<string, string>;
  /** The expected SHA-256 of the weights in hex; for shards one each, in order. */
  sha256?: string | string[];
  /** Whether to keep what is fetched in this browser, for the next visit; true without it. */
  cache?: boolean;
  /** Tokens of context to reserve memory for; at most the model's own. */
  contextLength?: number;
  /** Stores matrices of floats in fewer bits, as they stream in: for checkpoints that are not quantised. */
  quantize?: 'q8_0' | 'q4_0' | 'q4_k_m' | 'q6_k' | 'f16';
  gpu?: GpuOptions;
}

export interface Progress {
  /** `gpu`: asking for a device; `tokenizer`: small files; `weights`: the download; `prepare`: pipelines; `ready`. */
  phase: 'gpu' | 'tokenizer' | 'weights' | 'prepare' | 'ready';
  /** Bytes of weights so far. */
  loaded: number;
  /** Of these, bytes that were in this browser already. */
  cached?: number;
  /** Bytes of weights in all, where the server says. */
  total?: number;
  /** Over the last few seconds. */
  bytesPerSecond?: number;
  etaSeconds?: number;
}

export interface GenerateOptions {
  /** At most this many tokens, 0 to compute the prompt alone; without it, until the model ends or the context is full. */
  maxTokens?: number;
  /** 0 picks the likeliest token each time. */
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  /** Added to the logit of a token id. */
  logitBias?: Record<number, number>;
  /** The same seed, model and device give the same text. */
  seed?: number;
  /** Text that ends the generation; it is not part of the output. */
  stop?: string | string[];
  /** Report this many likeliest alternatives with each token; 0 reports the chosen token's alone. */
  logprobs?: number;
  /** Stops the GPU before the next token; the iteration then throws with code `aborted`. */
  signal?: AbortSignal;
}

export interface Token {
  /** Text that this token completes; empty while a character is still incomplete. */
  text: string;
  /** Absent with text that was held back, in case a `stop` text began with it, until the end. */
  id?: number;
  /** Natural logarithm of its probability, where `logprobs` asked for it. */
  logprob?: number;
  top?: { id: number; text: string; logprob: number }[];
}

/** What `generate` returns when it ends by itself. */
export interface Completion {
  text: string;
  ids: number[];
  promptIds: number[];
  finishReason: 'eos' | 'stop' | 'length' | 'context';
  /** The one given, or the one drawn: with it the same run can be had again. */
  seed: number;
  timings: { promptMs: number; decodeMs: number; ttftMs: number };
}

export interface ScoreOptions {
  /** Report this many likeliest tokens at each position, too. */
  top?: number;
  /** Stops the GPU soon; `score` then rejects with code `aborted` at once. */
  signal?: AbortSignal;
}

export interface Score {
  ids: number[];
  /** Log-probability of each token given those before it; the first has none. */
  logprobs: (number | null)[];
  meanNll: number;
  perplexity: number;
  /** For each position, the likeliest tokens there, where `top` asked for them. */
  top: { id: number; text: string; logprob: number }[][];
}

export interface BenchOptions {
  /** Tokens of the prompt; 128 without it. */
  promptTokens?: number;
  /** Tokens to decode after it; 32 without it. */
  decodeTokens?: number;
  /** Runs, after one that is not counted; 3 without it. */
  runs?: number;
  /** Time every dispatch by itself, too. Needs `timestamp-query`: all times are 0 without. */
  trace?: boolean;
}

/** What all dispatches of a kernel took together. */
export interface KernelTime {
  kernel: string;
  count: number;
  ms: number;
  gbps: number;
  gflops: number;
}

/** The figures of `helium bench --json`; of several runs the medians. */
export interface BenchReport {
  adapter: string;
  prefill_tps: number;
  decode_tps: number;
  ttft_ms: number;
  dispatches_per_token: number;
  encode_us_per_token: number;
  weight_bytes: number;
  kv_bytes: number;
  gpu_bytes: number;
  /** What a copy from buffer to buffer reads; it writes as much. */
  read_gbps: number;
  /** Multiplications and additions in f32 at most. */
  peak_gflops: number;
  decode_gbps: number;
  /** decode_gbps / read_gbps. */
  roofline: number;
  spread: Record<'prefill_tps' | 'decode_tps' | 'ttft_ms' | 'encode_us_per_token', { median: number; least: number; most: number }>;
  decode_trace?: KernelTime[];
  prefill_trace?: KernelTime[];
}

export interface AdapterInfo {
  name: string;
  backend: string;
  /** True where the CPU stands in for a GPU: correct, but slow. */
  software: boolean;
  features: string[];
  limits: Record<string, number>;
}

/** The model, its quantisation, the adapter, the features in use, the memory taken. */
export interface Info {
  /** The name of the (first) file of weights. */
  model: string;
  architecture: string;
  parameters: number;
  quantization: string;
  /** Tokens that fit, the prompt's included. */
  contextLength: number;
  /** Bytes; `wasmBytes` is also the most that loading took, since that memory never shrinks. */
  memory: { weightBytes: number; kvBytes: number; gpuBytes: number; wasmBytes: number };
  adapter: AdapterInfo;
  /** What did not go as asked while loading, in words: a tokenizer that was refused, for one. */
  notes: string[];
  [name: string]: unknown;
}

/** Of the last run; the names of `helium bench --json`. */
export interface Stats {
  prefill_tps?: number;
  decode_tps?: number;
  ttft_ms?: number;
  [name: string]: unknown;
}

/** What to check, before anything large is downloaded. */
export interface CheckOptions extends Pick<LoadOptions, 'headers' | 'cache' | 'contextLength' | 'quantize' | 'gpu'> {
  /** Reads the header of these weights, and says what loading them would take. */
  weights?: Weights;
  /** In place of weights: their size alone, for an estimate without a request. */
  bytes?: number;
}

/** What `Helium.check` found. */
export interface Check {
  /** False where a load is bound to fail. */
  ok: boolean;
  /** Why, where `ok` is false; the same that `load` would throw. */
  code?: HeliumErrorCode;
  message?: string;
  adapter?: AdapterInfo;
  /**
   * Whether the GPU's memory suffices. WebGPU tells no memory size: `likely` and `unlikely` are an estimate from the
   * device's RAM, where the browser gives it, and `unknown` where not; `no`: a limit that WebGPU does tell is exceeded.
   */
  fits?: 'likely' | 'unlikely' | 'no' | 'unknown';
  /** What the weights' header says, and what they would take. */
  model?: Plan;
  download?: {
    /** Of all files of weights, where the server tells. */
    bytes?: number;
    /** Of these, already kept in this browser. */
    cached: number;
    /** What this browser's storage still has room for. Where it is too little, a load works but keeps nothing. */
    quotaBytes?: number;
  };
  /** Where the weights do not fit: files of the same hub repository that are expected to, the largest first. */
  smaller?: { file: string; bytes: number }[];
}

/** A model as it would be loaded. */
export interface Plan {
  architecture: string;
  parameters: number;
  quantization: string;
  contextLength: number;
  weightBytes: number;
  kvBytes: number;
  /** All that the GPU would hold. */
  gpuBytes: number;
}

/** A model that is kept in this browser. */
export interface CachedModel {
  /** For `Helium.deleteCached`. */
  id: string;
  /** The name of its (first) file of weights. */
  name: string;
  /** Where that came from. */
  url: string;
  /** All that is kept of it, its small files included. */
  bytes: number;
  /** False where a download was interrupted: the next load goes on with it. */
  complete: boolean;
  /** Milliseconds since 1970. */
  lastUsed: number;
}
