// The public types: what goes into and comes out of `Helium`.

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
}

export interface LoadOptions {
  /**
   * A GGUF file, a `.safetensors` file or a `.safetensors.index.json` by URL; shards in order; a file
   * from disk; or a file in a hub repository. Beside safetensors, config.json is read as well.
   */
  weights: string | URL | string[] | Blob | HubWeights;
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
  /** Keep the weights in this browser for the next visit. Accepted, but without effect in this version. */
  cache?: boolean;
  /** Tokens of context to reserve memory for; at most the model's own. */
  contextLength?: number;
  gpu?: GpuOptions;
}

export interface Progress {
  /** `gpu`: asking for a device; `tokenizer`: small files; `weights`: the download; `prepare`: pipelines; `ready`. */
  phase: 'gpu' | 'tokenizer' | 'weights' | 'prepare' | 'ready';
  /** Bytes of weights so far. */
  loaded: number;
  /** Bytes of weights in all, where the server says. */
  total?: number;
  /** Over the last few seconds. */
  bytesPerSecond?: number;
  etaSeconds?: number;
}

export interface GenerateOptions {
  /** At most this many tokens; without it, until the model ends or the context is full. */
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
  id: number;
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

export interface Score {
  ids: number[];
  /** Log-probability of each token given those before it; the first has none. */
  logprobs: (number | null)[];
  meanNll: number;
  perplexity: number;
  /** For each position, the likeliest tokens there, where `top` asked for them. */
  top: { id: number; text: string; logprob: number }[][];
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
  memory: { weightBytes: number; kvBytes: number; gpuBytes: number };
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

/** What `Helium.check` found. */
export interface Check {
  ok: boolean;
  /** Why not, where `ok` is false. */
  code?: 'no-webgpu' | 'no-adapter';
  message?: string;
  adapter?: AdapterInfo;
  /** WebGPU tells no memory size: this is an estimate from the device's RAM, where the browser gives it. */
  fits?: 'likely' | 'unlikely' | 'unknown';
}
