// The loaded model: at most one at a time. Loading can be paused, since what has arrived stays in this browser's storage.
// Knows nothing of the page.

import { Helium } from './helium/index.js';

/** After these the loaded model is of no more use. */
const FATAL = ['device-lost', 'internal', 'worker', 'closed', 'out-of-memory'];

export class Engine {
  /** Which entry of the chooser is loaded. */
  key;
  #helium;

  get info() {
    return this.#helium?.info;
  }

  get stats() {
    return this.#helium?.stats ?? {};
  }

  async load(key, options) {
    await this.drop(); // two models at once may not fit
    this.#helium = await Helium.load(options);
    this.key = key;
  }

  async drop() {
    const old = this.#helium;
    this.#helium = undefined;
    this.key = undefined;
    await old?.close();
  }

  /** Drops the model where an error means that it is lost, so that the next use loads it anew. */
  failed({ code }) {
    if (FATAL.includes(code)) this.drop().catch(() => undefined);
  }

  /** How many tokens a text has. */
  async count(text) {
    return (await this.#helium.tokenize(text)).length;
  }

  generate(prompt, options) {
    return this.#helium.generate(prompt, options);
  }

  /**
   * Scores a text: `tokens` in order, whose texts together are the text, with what the model said of each.
   * Nobody waits for it any more once `signal` aborts.
   */
  async score(text, top, signal) {
    const score = await this.#helium.score(text, { top, signal });
    // Where each token ends in the text: by the text of all tokens up to it, since one alone may be half a character.
    const tokens = [];
    let done = 0;
    let logprob = 0;
    let alternatives;
    for (let n = 1; n <= score.ids.length; n += 1) {
      signal.throwIfAborted();
      const whole = await this.#helium.detokenize(score.ids.slice(0, n));
      const known = score.logprobs[n - 1];
      logprob += known ?? 0;
      alternatives ??= n > 1 ? score.top[n - 2] : undefined;
      const isLast = n === score.ids.length;
      const end = isLast ? text.length : Math.min(text.length, whole.replace(/\uFFFD+$/, '').length);
      if (end <= done) continue; // a token of no text of its own, such as the one that begins all
      tokens.push({ text: text.slice(done, end), ...(known !== null && { known: { logprob, top: alternatives ?? [] } }) });
      done = end;
      logprob = 0;
      alternatives = undefined;
    }
    return { tokens, count: score.ids.length, perplexity: score.perplexity, bits: score.meanNll / Math.LN2 };
  }
}
