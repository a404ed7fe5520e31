// A page that uses the package: what a developer would write, one function for each step that the
// driver asks for. Compiled strictly, against the package's own types alone.

import { Helium, HeliumError, type GenerateOptions, type LoadOptions } from 'helium-webgpu';

let helium: Helium;

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
      helium = await Helium.load({
        ...options,
        contextLength: 256,
        onProgress(progress) {
          if (phases.at(-1) !== progress.phase) phases.push(progress.phase);
          ({ loaded, total } = progress);
        },
      });
      return { phases, loaded, total, info: helium.info, cached: await Helium.cached(options.weights) };
    })()),

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
