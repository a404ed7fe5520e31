// The messages between the page (index.ts) and the worker (worker.ts). Every request carries an id;
// the worker answers it with any number of `token` or `progress` messages and then one `done` or `failed`.

import type { WireError } from './errors.js';
import type { WireLoad } from './options.js';
import type { Info, Progress, Stats, Token } from './types.js';

export type Request =
  | { op: 'load'; options: WireLoad }
  | { op: 'check'; options: WireLoad }
  | { op: 'generate'; prompt: string | Uint32Array; options: object }
  | { op: 'score'; text: string; top: number }
  | { op: 'bench'; options: object }
  | { op: 'tokenize'; text: string }
  | { op: 'detokenize'; ids: Uint32Array }
  | { op: 'close' };

export type ToWorker =
  | ({ id: number } & Request)
  /** Stops the request with this id; it still answers, with `failed` and code `aborted`, or `done`. */
  | { op: 'cancel'; id: number };

export type FromWorker =
  | { id: number; kind: 'progress'; progress: Progress }
  | { id: number; kind: 'token'; token: Token }
  | { id: number; kind: 'done'; value: unknown; info?: Info; stats?: Stats }
  | { id: number; kind: 'failed'; error: WireError };
