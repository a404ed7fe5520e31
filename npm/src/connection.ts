// One worker and the requests in flight to it. Every request settles: with the worker's answer, by the
// caller's signal, when the connection closes, or when the worker breaks.

import { aborted, fromWire, HeliumError } from './errors.js';
import type { FromWorker, Request, ToWorker } from './protocol.js';
import type { Info, Progress, Stats, Token } from './types.js';

/** How long `close` waits for the worker to free the GPU's memory in order before ending it. */
const CLOSE_MS = 2000;

interface Pending {
  resolve(value: unknown): void;
  reject(error: HeliumError): void;
  onProgress?: ((progress: Progress) => void) | undefined;
  onToken?: ((token: Token) => void) | undefined;
}

export class Connection {
  info: Info | undefined;
  stats: Stats = {};
  private readonly worker = startWorker();
  private readonly pending = new Map<number, Pending>();
  private nextId = 1;
  /** Why no more requests are taken. */
  private ended: HeliumError | undefined;

  constructor() {
    this.worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.receive(data);
    this.worker.onerror = (event) => {
      // A worker whose script did not arrive says nothing; one that threw says what.
      const why = event.message || 'is worker.js served beside index.js, and does the page allow it (CSP worker-src)?';
      this.end(new HeliumError('worker', `the engine's worker failed: ${why}`));
    };
    this.worker.onmessageerror = () => this.end(new HeliumError('worker', "a message from the engine's worker could not be read"));
  }

  /** Sends a request. With a signal, it rejects as soon as that fires, and the worker is told to stop. */
  async request(
    request: Request,
    how: { signal?: AbortSignal | undefined } & Pick<Pending, 'onProgress' | 'onToken'> = {},
  ): Promise<unknown> {
    const { signal, onProgress, onToken } = how;
    if (this.ended) throw this.ended;
    if (signal?.aborted) throw aborted(signal);
    const id = this.nextId++;
    const answer = new Promise<unknown>((resolve, reject) => {
      this.pending.set(id, { resolve, reject, onProgress, onToken });
    });
    const onAbort = (): void => {
      this.post({ op: 'cancel', id });
      this.settle(id)?.reject(aborted(signal!));
    };
    signal?.addEventListener('abort', onAbort);
    try {
      this.post({ id, ...request });
      return await answer;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Rejects what is in flight with `closed`, lets the worker free the GPU's memory, and ends it. */
  async close(): Promise<void> {
    if (this.ended) return;
    for (const id of this.pending.keys()) this.post({ op: 'cancel', id });
    const freed = this.request({ op: 'close' });
    const id = this.nextId - 1;
    const ended = new HeliumError('closed', 'this Helium was closed');
    this.ended = ended;
    for (const other of [...this.pending.keys()]) if (other !== id) this.settle(other)?.reject(ended);
    await Promise.race([freed.catch(() => undefined), new Promise((resolve) => setTimeout(resolve, CLOSE_MS))]);
    this.end(ended);
  }

  /** Ends the worker at once; everything in flight rejects with `error`. */
  end(error: HeliumError): void {
    this.ended ??= error;
    this.worker.terminate();
    for (const id of [...this.pending.keys()]) this.settle(id)?.reject(error);
  }

  private receive(message: FromWorker): void {
    switch (message.kind) {
      case 'progress':
        return this.pending.get(message.id)?.onProgress?.(message.progress);
      case 'token':
        return this.pending.get(message.id)?.onToken?.(message.token);
      case 'done':
        if (message.info) this.info = message.info;
        if (message.stats) this.stats = message.stats;
        return this.settle(message.id)?.resolve(message.value);
      case 'failed':
        return this.settle(message.id)?.reject(fromWire(message.error));
    }
  }

  private settle(id: number): Pending | undefined {
    const pending = this.pending.get(id);
    this.pending.delete(id);
    return pending;
  }

  private post(message: ToWorker): void {
    this.worker.postMessage(message);
  }
}

function startWorker(): Worker {
  // From a CDN: another origin's script may be imported, but not be a worker itself. (Bundlers may put a
  // file: URL here, which is not foreign.)
  const here = import.meta.url;
  if (/^https?:/.test(here) && new URL(here).origin !== globalThis.location.origin) {
    const script = `import ${JSON.stringify(new URL('worker.js', here).href)};`;
    const shim = URL.createObjectURL(new Blob([script], { type: 'text/javascript' }));
    return new Worker(shim, { type: 'module' });
  }
  // Bundlers recognise exactly this expression, so it stays in one piece.
  return new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
}
