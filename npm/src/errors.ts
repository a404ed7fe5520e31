// The one error class of the package, and its form on the way from the worker to the page.
// Knows nothing of the engine: the codes below that come from it are those of src/error.rs.

/** What went wrong, by kind. The message says which file, option or limit, and what to do. */
export type HeliumErrorCode =
  /** This browser offers no WebGPU (or the page is not served over https or from localhost). */
  | 'no-webgpu'
  /** WebGPU is there but gives no adapter that fits the request. */
  | 'no-adapter'
  /** The GPU has too little memory, or a buffer exceeds its limits. */
  | 'out-of-memory'
  /** The GPU device went away (driver reset, sleep, the tab was evicted): load again. */
  | 'device-lost'
  /** A file could not be fetched, after retries. */
  | 'network'
  /** The browser's storage is full. */
  | 'quota'
  /** A file's bytes contradict its format, its size or its sha256. */
  | 'corrupt'
  /** A well-formed model that this engine does not run. */
  | 'unsupported-model'
  /** An option outside its range, or an unknown one. */
  | 'invalid-argument'
  /** More tokens than the context holds. */
  | 'context-full'
  /** The caller's AbortSignal fired. */
  | 'aborted'
  /** `close()` was called. */
  | 'closed'
  /** The module worker did not start. */
  | 'worker'
  /** A file could not be read. */
  | 'io'
  /** A broken assumption inside the engine: worth a bug report. */
  | 'internal';

/** Every error that this package throws. */
export class HeliumError extends Error {
  override readonly name = 'HeliumError';

  constructor(
    readonly code: HeliumErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** An error as a message: class instances do not survive `postMessage`. */
export interface WireError {
  code: HeliumErrorCode;
  message: string;
}

/** Whatever was thrown, as a message. What carries no code was not foreseen, so it is `internal`. */
export function toWire(thrown: unknown): WireError {
  const { code, message } = (thrown ?? {}) as { code?: unknown; message?: unknown };
  const text = typeof message === 'string' ? message : String(thrown);
  // A DOMException's `code` is a number; ours are words.
  if (typeof code === 'string') return { code: code as HeliumErrorCode, message: text };
  return { code: 'internal', message: `internal error: ${text}` };
}

export function fromWire(error: WireError): HeliumError {
  return new HeliumError(error.code, error.message);
}

/** The error for a fired signal; the signal's reason is its cause. */
export function aborted(signal: AbortSignal): HeliumError {
  return new HeliumError('aborted', 'aborted by the caller', { cause: signal.reason });
}
