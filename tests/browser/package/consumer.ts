// A page that uses the package: what a developer would write, one function for each step that the
// driver asks for. Compiled strictly, against the package's own types alone.

import { Helium, HeliumError, type GenerateOptions, type LoadOptions, type Session, type Token } from 'helium-webgpu';

let helium: Helium;
let lost: Promise<{ error?: Failure }>;

type Failure = { name: string; code: string; message: string };

/** The outcome as plain data: errors do not survive the way to the driver. */
async function outcome<T>(work: Promise<T>): Promise<{ value?: T; error?: Failure }> {
  try {
    return { value: await work };
  } catch (error) {
    if (!(error instanceof HeliumError)) throw error;
    return { error: { name: error.name, code: error.code, message: error.message } };
  }
}

async function drain(prompt: string, options: GenerateOptions, each: (text: string) => void = () => undefined): Promise<number> {
  let count = 0;
  for await (const { text } of helium.generate(prompt, { temperature: 0, ...options })) {
    count += 1;
    each(text);
  }
  return count;
}

const steps = {
  check: () => Helium.check(),

  async whatItTakes(weights: string) {
    const { ok, model, download, fits, smaller = [] } = await Helium.check({ weights, contextLength: 256 });
    return { ok, architecture: model?.architecture, bytes: download?.bytes, fits, smaller: smaller.length };
  },

  async forget() {
    const models = await Helium.cached();
    for (const model of models) await Helium.deleteCached(model);
    return { before: models.length, after: (await Helium.cached()).length };
  },

  load: (options: LoadOptions) =>
    outcome((async () => {
      const phases: string[] = [];
      let loaded = 0;
      let total: number | undefined;
      const before = helium;
      helium = await Helium.load({
        ...options,
        contextLength: 256,
        onProgress(progress) {
          if (phases.at(-1) !== progress.phase) phases.push(progress.phase);
          ({ loaded, total } = progress);
        },
      });
      await before?.close();
      return { phases, loaded, total, info: helium.info, cached: await Helium.cached(options.weights) };
    })()),

  /** A load on a device that has no memory left, as far as it tells. */
  async exhausted(weights: string) {
    const Native = Worker;
    const script = (code: string): string => URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
    const patch = script(`GPUDevice.prototype.popErrorScope = async () => new GPUOutOfMemoryError('no memory');`);
    globalThis.Worker = class extends Native {
      constructor(url: URL | string, options?: WorkerOptions) {
        super(script(`import '${patch}'; import '${url}';`), options);
      }
    };
    try {
      return await outcome(Helium.load({ weights, contextLength: 256 }).then(() => undefined));
    } finally {
      globalThis.Worker = Native;
    }
  },

  async abortedLoad(options: LoadOptions) {
    const abort = new AbortController();
    const onProgress: LoadOptions['onProgress'] = ({ loaded }) => {
      if (loaded > 0) abort.abort();
    };
    const { error } = await outcome(Helium.load({ ...options, onProgress, signal: abort.signal }));
    return { error };
  },

  async generate(prompt: string, options: GenerateOptions) {
    const tokens = [];
    const run = helium.generate(prompt, options);
    for (;;) {
      const next = await run.next();
      if (next.done) return { tokens, completion: next.value, stats: helium.stats };
      tokens.push(next.value);
    }
  },

  async stopping() {
    let left = 0;
    for await (const _ of helium.generate('Once', { maxTokens: 200 })) {
      left += 1;
      if (left === 2) break;
    }
    const abort = new AbortController();
    let afterAbort = 0;
    const { error: aborted } = await outcome(drain('Once', { maxTokens: 200, signal: abort.signal }, () => {
      if (abort.signal.aborted) afterAbort += 1;
      abort.abort();
    }));
    return { left, aborted, afterAbort, next: await drain('Once', { maxTokens: 2 }) };
  },

  async queued() {
    let order = '';
    await Promise.all([
      drain('One', { maxTokens: 2 }, () => (order += 'a')),
      drain('Two', { maxTokens: 2 }, () => (order += 'b')),
    ]);
    return order;
  },

  async sessions() {
    const collect = async (run: AsyncIterable<Token>): Promise<number[]> => {
      const ids = [];
      for await (const { id } of run) if (id !== undefined) ids.push(id);
      return ids;
    };
    const session = await helium.session('Once upon a time');
    const start = session.length;
    const first = await collect(session.generate({ maxTokens: 6, temperature: 0 }));
    const branch: Session = session.branch();
    session.truncate(start + 2);
    const again = await collect(session.generate({ maxTokens: 4, temperature: 0 }));
    await branch.append(' And then');
    const more = await collect(branch.generate({ maxTokens: 2, temperature: 0 }));
    const whole = await helium.tokenize('Once upon a time and then');
    const grown = await helium.session('Once upon a time');
    await grown.append(' and then');
    return {
      first, again, kept: session.ids.slice(start),
      text: await branch.text(), more: branch.ids.slice(-2), expected: more,
      whole: [...whole], grown: grown.ids,
    };
  },

  /** Load, generate, close, over and over. */
  async rounds(weights: string, count: number) {
    await helium.close(); // of the step before
    const seen = [];
    for (let round = 0; round < count; round++) {
      helium = await Helium.load({ weights, contextLength: 256 });
      const tokens = await drain('Once upon a time', { maxTokens: 2 });
      seen.push({ ...helium.info.memory, tokens });
      await helium.close();
    }
    return seen;
  },

  /** A generation under way, for the driver to take the GPU away from. */
  async begin() {
    let wake!: () => void;
    const begun = new Promise<void>((resolve) => (wake = resolve));
    lost = outcome(drain('Once', { maxTokens: 200 }, () => wake()));
    await begun;
  },

  lost: () => lost,

  async texts(text: string) {
    const ids = await helium.tokenize(text);
    return { ids: [...ids], text: await helium.detokenize(ids), score: await helium.score(text) };
  },

  async completions() {
    const request = { prompt: 'Once upon a time', max_tokens: 3, temperature: 0 };
    const whole = await helium.completions.create(request);
    const chunks = [];
    for await (const chunk of await helium.completions.create({ ...request, stream: true })) chunks.push(chunk);
    const { error } = await outcome(helium.completions.create({ ...request, best_of: 3 } as never));
    return { whole, chunks, error };
  },

  /** Two choices that are their prompt alone, with its log-probabilities. */
  echoed: (prompt: string) => helium.completions.create({ prompt, n: 2, echo: true, logprobs: 1, max_tokens: 0 }),

  async closing() {
    const { error: running } = await outcome(drain('Once', { maxTokens: 200 }, () => void helium.close()));
    const { error: later } = await outcome(drain('Once', { maxTokens: 1 }));
    await helium.close();
    return { running, later, again: true };
  },

  elsewhere: (address: string, weights: string) =>
    outcome((async () => {
      const remote = (await import(address)) as { Helium: typeof Helium };
      helium = await remote.Helium.load({ weights, contextLength: 256 });
      const count = await drain('Once', { maxTokens: 2 });
      await helium.close();
      return count;
    })()),
};

declare global {
  // eslint-disable-next-line no-var -- how a global is declared
  var step: (name: keyof typeof steps, ...args: never[]) => Promise<unknown>;
}
globalThis.step = (name, ...args) => (steps[name] as (...given: never[]) => Promise<unknown>)(...args);
