// What the page is doing: nothing, or one thing that can be stopped. Dispatches `change` when that changes.
// Whoever is at work tells of a stop; here it only ends the work.

export class Run extends EventTarget {
  #controller;

  get isOn() {
    return this.#controller !== undefined;
  }

  /** Aborts when what goes on is stopped. */
  get signal() {
    return this.#controller?.signal;
  }

  /** Does `work`, unless something is going on already; errors other than a stop go to `onError`. */
  async start(work, onError) {
    if (this.isOn) return;
    this.#controller = new AbortController();
    this.#changed();
    try {
      await work();
    } catch (error) {
      if (!isStop(error)) onError(error);
    } finally {
      this.#controller = undefined;
      this.#changed();
    }
  }

  stop() {
    this.#controller?.abort();
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }
}

export const isStop = ({ code, name }) => code === 'aborted' || name === 'AbortError';

/** Rejects when `signal` aborts: for work that takes no signal, so that the page at least need not wait for it. */
export function stopped(signal) {
  return new Promise((_, reject) => {
    const stop = () => reject(new DOMException('stopped', 'AbortError'));
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
  });
}
