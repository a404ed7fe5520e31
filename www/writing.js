// The model at work on the text of the editor: it continues it, writes a part of it anew, scores it.

import { Charts } from './inspect.js';
import { at, say } from './page.js';
import { isStop } from './run.js';
import * as settings from './settings.js';
import { words } from './strings.js';
import { ranOn, speed } from './words.js';

/** Alternatives asked for at each token. */
const TOP = 10;

export class Writing {
  #engine;
  #editor;
  #run;
  #start;
  #charts = new Charts({ speed: at('speed-chart'), entropy: at('entropy-chart'), speedNow: at('speed-now'), entropyNow: at('entropy-now') });
  /** How the last continuation came about: for Retry and for the link. */
  #last; // { prompt, seed, run, isLong }

  /** `start` does a work once the chosen model is loaded, unless something is going on. */
  constructor({ engine, editor, run, start }) {
    this.#engine = engine;
    this.#editor = editor;
    this.#run = run;
    this.#start = start;
  }

  /**
   * Continues the text before the cursor, or from `from`; see `Editor.begin`. Of a text longer than the context the
   * model reads the end alone if `isLong`.
   */
  write({ from, seed, isLong = false, ...place } = {}) {
    const editor = this.#editor;
    editor.sync();
    if (this.#run.isOn || !settings.areValid()) return;
    const options = settings.read();
    options.seed = seed ?? options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
    if (at('alternatives').checked) options.logprobs = TOP;
    else if (at('tint').checked) options.logprobs = 0;
    // Where the place is given, the text must stay as it is until the model is there.
    editor.box.readOnly = from !== undefined;
    this.#start(async () => {
      editor.sync();
      const stream = editor.begin({ at: from ?? editor.caret, ...place });
      try {
        await this.#follow(stream, options, isLong);
      } finally {
        stream.end();
      }
    }).finally(() => {
      editor.box.readOnly = false;
    });
  }

  /** The continuation that can be had anew: it still begins where it began, after the same words. */
  get canRetry() {
    const last = this.#last;
    return last !== undefined && this.#editor.last?.run === last.run && this.#editor.text.startsWith(last.prompt);
  }

  /** The text and the seed that lead to what stands in the editor, where that can be had anew; else its text. */
  get beginning() {
    return this.canRetry ? { text: this.#last.prompt, seed: this.#last.seed } : { text: this.#editor.text };
  }

  retry() {
    if (!this.canRetry) return;
    const { prompt, run, isLong } = this.#last;
    this.write({ from: prompt.length, to: this.#editor.last.to, run, isLong });
  }

  /** Whether the cursor stands within the continuation, so that the rest of it can be dropped. */
  get canKeep() {
    const { last, caret } = this.#editor;
    return last !== undefined && caret > last.from && caret < last.to;
  }

  keep() {
    const { caret, last } = this.#editor;
    this.#editor.replace(caret, last.to, [], caret);
    this.#editor.box.focus();
  }

  /** Takes the alternative in place of the token that starts at `start`, and goes on from there. */
  branch(piece, start, alternative) {
    const { top } = piece.known;
    const isTheirs = piece.run > 0;
    const { to } = isTheirs ? this.#editor.extent(piece.run) : { to: this.#editor.text.length };
    const first = { text: alternative.text, known: { logprob: alternative.logprob, top } };
    this.#editor.box.focus();
    this.write({ from: start, to, ...(isTheirs && { run: piece.run }), first });
  }

  /** Lets the model say how likely it finds each word of the whole text; `onScored` may then show it. */
  score(onScored) {
    const editor = this.#editor;
    editor.sync();
    if (editor.text.trim() === '') return say(words.nothingToScore);
    this.#start(async () => {
      const { signal } = this.#run;
      say(words.scoring);
      // As it is now: it may have been changed while the model was loaded.
      editor.sync();
      const { text } = editor;
      editor.box.readOnly = true;
      try {
        const result = await this.#engine.score(text, at('alternatives').checked ? TOP : 0, signal);
        editor.annotate(result.tokens);
        onScored();
        say(words.scored(words.tokens(result.count), result.perplexity.toFixed(1), result.bits.toFixed(1)));
      } catch (error) {
        if (isStop(error)) say(words.scoreStopped);
        throw await this.#explained(error, text);
      } finally {
        editor.box.readOnly = false;
      }
    });
  }

  /** Lets the model write into the editor until it ends or is stopped. */
  async #follow(stream, options, isLong) {
    const engine = this.#engine;
    const text = this.#editor.text.slice(0, stream.start);
    this.#last = { prompt: text, seed: options.seed, run: stream.run, isLong };
    this.#charts.clear();
    say(words.reading);
    let count = 0;
    let result;
    // Tokens whose text came only with a later one: theirs is one piece with it.
    let held = 0;
    let heldTop;
    const tokens = engine.generate(isLong ? await this.#endOf(text) : text, { ...options, signal: this.#run.signal });
    try {
      for (;;) {
        const next = await tokens.next();
        if (next.done) {
          result = next.value;
          break;
        }
        if (count === 0) say(words.writing);
        count += 1;
        const { text: more, logprob, top } = next.value;
        this.#charts.add(top);
        held += logprob ?? 0;
        heldTop ??= top;
        if (more === '') continue;
        stream.add(more.replace(/\r\n?/g, '\n'), logprob === undefined ? undefined : { logprob: held, top: heldTop ?? [] });
        held = 0;
        heldTop = undefined;
      }
    } catch (error) {
      if (!isStop(error)) throw await this.#explained(error, text, () => this.write({ isLong: true }));
    }
    const rate = engine.stats.decode_tps;
    const tokensInWords = words.tokens(count);
    if (result === undefined) say(words.stopped(tokensInWords));
    else if (result.finishReason === 'context') say(words.contextFull(tokensInWords));
    else say(words.done(tokensInWords, rate > 0 ? speed(rate) : ''));
    at('ran-on').textContent = `${ranOn(engine.info.adapter)} · ${words.seedWas(options.seed)}`;
    at('ran-on').title = engine.info.notes.join('\n');
  }

  /** Of a text that is too long, what fits half of the context: so there is room to go on. */
  async #endOf(text) {
    const count = await this.#engine.count(text);
    const share = this.#engine.info.contextLength / 2 / count;
    if (share >= 1) return text;
    const end = text.slice(Math.ceil(text.length * (1 - share)));
    return end.slice(Math.max(0, end.search(/\s/))); // no half of a word
  }

  /** An error on a text that is too long says by how much; `goOn` is what helps, where something does. */
  async #explained(error, text, goOn) {
    if (error.code !== 'context-full') return error;
    const message = words.tooLong(await this.#engine.count(text), this.#engine.info.contextLength);
    return Object.assign(new Error(message), { code: error.code, remedy: goOn && [words.goOn, goOn] });
  }
}
