// The package's public entry: one class, one error, the types.

import { deleteModels, listModels } from './cache.js';
import { check } from './check.js';
import { Completions } from './completions.js';
import { Connection } from './connection.js';
import { HeliumError } from './errors.js';
import { modelId } from './hub.js';
import { checkBench, checkCheck, checkGenerate, checkIds, checkLoad, checkPrompt, checkScore, checkWeights, isFiles } from './options.js';
import { openSession, type Session } from './session.js';
import type { BenchOptions, BenchReport, CachedModel, Check, CheckOptions, Completion, GenerateOptions, Info, LoadOptions, Score, ScoreOptions, Stats, Token, Weights } from './types.js';

export { HeliumError, type HeliumErrorCode } from './errors.js';
export type * from './completions.js';
export type { Session } from './session.js';
export type * from './types.js';

/** A loaded model. Get one from {@link Helium.load}; call {@link Helium.close} when done with it. */
export class Helium {
  /** The same generation in the shape of OpenAI's completions endpoint. */
  readonly completions: Completions = new Completions(this);

  private constructor(private readonly connection: Connection) {}

  /** Starts a worker, opens the GPU and streams the weights into it. */
  static async load(options: LoadOptions): Promise<Helium> {
    const wire = checkLoad(options, baseUrl());
    const { signal, onProgress } = options;
    // Only a page may ask that its storage outlive a shortage. Some browsers ask the visitor; the load does not wait for that.
    if (wire.cache && !isFiles(wire.weights)) void navigator.storage?.persist?.().catch(() => undefined);
    const connection = new Connection();
    try {
      const tuning = wire.cache ? readTuning() : undefined;
      if (tuning !== undefined) wire.tuning = tuning;
      const found = await connection.request({ op: 'load', options: wire }, { signal, onProgress });
      if (wire.cache && typeof found === 'string') writeTuning(found);
      return new Helium(connection);
    } catch (error) {
      // Ending the worker frees all it had, and stops its downloads.
      connection.end(error as HeliumError);
      throw error;
    }
  }

  /**
   * What WebGPU offers here; with weights, whether they can be loaded and what that takes, read off their
   * headers: `ok` is false, with the reason, where they cannot.
   */
  static async check(options?: CheckOptions): Promise<Check> {
    const { bytes, gpu, load } = checkCheck(options, baseUrl());
    const { powerPreference } = gpu;
    const here = await check({ ...(bytes !== undefined && { bytes }), ...(powerPreference !== undefined && { powerPreference }) });
    if (!load || !here.ok) return here;
    const connection = new Connection();
    try {
      return (await connection.request({ op: 'check', options: load })) as Check;
    } finally {
      connection.end(new HeliumError('closed', 'the check is over'));
    }
  }

  /** The models that are kept in this browser, the last used first; with weights, that one or none. */
  static async cached(weights?: Weights): Promise<CachedModel[]> {
    const id = idOf(weights);
    return id === null ? [] : listModels(id);
  }

  /** Deletes a kept model, or all of them. What a load is using stays, and is named in the error. */
  static async deleteCached(model?: CachedModel | Weights): Promise<void> {
    const id = typeof model === 'object' && 'id' in model ? model.id : idOf(model as Weights | undefined);
    if (id !== null) await deleteModels(id);
  }

  /**
   * Continues `prompt`, a text or token ids, token by token. Leaving the loop stops the GPU within one token. Several
   * generations at a time queue, in the order in which their iteration began.
   */
  generate(prompt: string | ArrayLike<number>, options: GenerateOptions = {}): AsyncGenerator<Token, Completion, undefined> {
    const checked = checkGenerate(prompt, options); // complains here, not at the first token
    return this.stream(checkPrompt(prompt), checked, options.signal);
  }

  /** A text that can be continued, cut back to a token and branched; what it has in common with the last run is not computed again. */
  session(prompt: string | ArrayLike<number> = ''): Promise<Session> {
    return openSession(this, prompt);
  }

  private async *stream(prompt: string | Uint32Array, options: object, outer: AbortSignal | undefined): AsyncGenerator<Token, Completion, undefined> {
    const tokens: Token[] = [];
    let wake = (): void => undefined;
    const leave = new AbortController();
    const onAbort = (): void => leave.abort(outer?.reason);
    if (outer?.aborted) onAbort();
    outer?.addEventListener('abort', onAbort);

    let outcome: { value: Completion } | { error: unknown } | undefined;
    const settled = (how: NonNullable<typeof outcome>): void => {
      outcome = how;
      wake();
    };
    const onToken = (token: Token): void => {
      tokens.push(token);
      wake();
    };
    this.connection
      .request({ op: 'generate', prompt, options }, { signal: leave.signal, onToken })
      .then((value) => settled({ value: value as Completion }), (error: unknown) => settled({ error }));
    try {
      for (;;) {
        // After an abort no further token comes out, even one that had already arrived.
        if (leave.signal.aborted) tokens.length = 0;
        const token = tokens.shift();
        if (token !== undefined) yield token;
        else if (outcome === undefined) await new Promise<void>((resolve) => (wake = resolve));
        else if ('error' in outcome) throw outcome.error;
        else return outcome.value;
      }
    } finally {
      outer?.removeEventListener('abort', onAbort);
      leave.abort(); // after the end this reaches nobody
    }
  }

  /** Log-probabilities of a text's own tokens; with `top`, of the likeliest alternatives at each position too. */
  async score(text: string, options: ScoreOptions = {}): Promise<Score> {
    return (await this.connection.request({ op: 'score', ...checkScore(text, options) }, { signal: options.signal })) as Score;
  }

  /** Measures how fast the model runs here, on random tokens: some minutes where the CPU stands in for a GPU. */
  async bench(options?: BenchOptions): Promise<BenchReport> {
    const report = (await this.connection.request({ op: 'bench', options: checkBench(options) })) as BenchReport;
    return { ...report, adapter: this.info.adapter.name };
  }

  async tokenize(text: string): Promise<Uint32Array> {
    return (await this.connection.request({ op: 'tokenize', text: string('text', text) })) as Uint32Array;
  }

  async detokenize(ids: ArrayLike<number>): Promise<string> {
    return (await this.connection.request({ op: 'detokenize', ids: checkIds('ids', ids) })) as string;
  }

  /** The model, its quantisation, the adapter, the features in use, the memory taken. */
  get info(): Info {
    return this.connection.info!; // comes with the answer to `load`
  }

  /** Of the last run. */
  get stats(): Stats {
    return this.connection.stats;
  }

  /** Stops what runs, frees the GPU's memory and ends the worker. Later calls reject with code `closed`. */
  close(): Promise<void> {
    return this.connection.close();
  }
}

function string(name: string, value: unknown): string {
  if (typeof value === 'string') return value;
  throw new HeliumError('invalid-argument', `${name}: expected a text, found ${typeof value}`);
}

/** Where a page keeps which kernels are fastest on this device. A worker has no such place: there each load measures. */
const TUNING_KEY = 'helium-webgpu kernels';

function readTuning(): string | undefined {
  try {
    return globalThis.localStorage?.getItem(TUNING_KEY) ?? undefined;
  } catch {
    return undefined; // storage is refused
  }
}

function writeTuning(tuning: string): void {
  try {
    globalThis.localStorage?.setItem(TUNING_KEY, tuning);
  } catch {
    // Full or refused: the next load measures again.
  }
}

/** Relative URLs are relative to the page. */
function baseUrl(): string {
  return globalThis.document?.baseURI ?? globalThis.location.href;
}

/** The id that weights are kept under; null for files from disk, which are not kept. */
function idOf(weights: Weights | undefined): string | undefined | null {
  if (weights === undefined) return undefined;
  const checked = checkWeights(weights, baseUrl());
  return isFiles(checked) ? null : modelId(checked);
}
