// An engine that computes nothing, in place of the module's own: it writes the digest of the weights it was given, then
// a few words, and fails as how.js has it. Headers are read by the real one, engine.js.

import how from './how.js';
import { ModelPlan as Plan, Sha256 } from './engine.js';

export * from './engine.js';
export { default } from './engine.js';

const { contextLength = 48, gate, failures = {}, room } = how;
const WORDS = [' and', ' so', ' they', ' lived', ' on', ' by', ' the', ' sea'];
if (room !== undefined) StorageManager.prototype.estimate = async () => ({ quota: room, usage: 0 });

/** An error of the engine's, where this step is to have one. */
function fail(step) {
  if (failures[step]) throw Object.assign(new Error(failures[step].message), { code: failures[step].code });
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const pieces = (text) => text.match(/\s*\S+|\s+$/g) ?? [];
const likely = (text, share) => [{ id: 0, text, logprob: Math.log(share) }, { id: 1, text: ' else', logprob: Math.log(share / 2) }];

export class ModelPlan extends Plan {
  finish() {
    fail('plan');
    return super.finish();
  }
}

export class Engine {
  #sha;
  #digest;
  #texts = [];

  static async open() {
    fail('open');
    return new Engine();
  }

  begin() {
    this.#sha = new Sha256();
  }

  push(bytes) {
    fail('push');
    this.#sha.update(bytes);
  }

  async finish() {
    fail('finish');
    this.#digest = this.#sha.hex();
  }

  async generate(prompt, options, cancel, emit) {
    fail('generate');
    this.#refuseLong(prompt);
    const texts = [` ${this.#digest.slice(0, 16)}`, ...WORDS].slice(0, options.maxTokens);
    for (const text of texts) {
      await pause(20);
      emit({ id: 0, text, logprob: Math.log(0.4), top: options.logprobs ? likely(text, 0.4) : undefined });
    }
    return { text: texts.join(''), ids: texts.map(() => 0), promptIds: [], finishReason: 'length', seed: options.seed, timings: {} };
  }

  async score(text, top) {
    this.#refuseLong(text);
    if (gate) await fetch(gate); // which is answered when the test wants the scoring to end
    const ids = [...this.tokenize(text)];
    const logprobs = ids.map((_, nth) => (nth === 0 ? null : Math.log(0.3)));
    return { ids, logprobs, meanNll: 1.2, perplexity: 3.3, top: ids.slice(1).map(() => (top ? likely(' word', 0.4) : [])) };
  }

  tokenize(text) {
    this.#texts = pieces(text);
    return Uint32Array.from(this.#texts.keys());
  }

  detokenize(ids) {
    return Array.from(ids, (id) => this.#texts[id]).join('');
  }

  #refuseLong(text) {
    const { length } = this.tokenize(text);
    if (length > contextLength) throw Object.assign(new Error(`${length} tokens do not fit the context of ${contextLength}`), { code: 'context-full' });
  }

  beginFile() {}
  async flush() {}
  endFile() {}
  free() {}
  tuning() {}
  adapter = () => ({ name: 'stand-in', backend: 'none', software: false, features: [], limits: {} });
  info = () => ({ architecture: 'none', contextLength });
  stats = () => ({ decode_tps: 50 });
}
