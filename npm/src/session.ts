// A text that grows: its tokens are all there is to a session. The engine keeps what a new prompt has in
// common with its context, so going on costs the new tokens alone, and cutting back or branching nothing.

import { HeliumError } from './errors.js';
import { checkGenerate, checkIds } from './options.js';
import type { Completion, GenerateOptions, Token } from './types.js';

/** What a session needs of `Helium`. */
interface Engine {
  generate(prompt: ArrayLike<number>, options: GenerateOptions): AsyncGenerator<Token, Completion, undefined>;
  tokenize(text: string): Promise<Uint32Array>;
  detokenize(ids: ArrayLike<number>): Promise<string>;
}

/** A prompt and its continuation, to go on with. Get one from `Helium.session`; it needs no closing. */
export class Session {
  private readonly tokens: number[];
  private busy = false;

  /** @internal */
  constructor(
    private readonly helium: Engine,
    ids: ArrayLike<number>,
  ) {
    this.tokens = Array.from(ids);
  }

  /** How many tokens it has. */
  get length(): number {
    return this.tokens.length;
  }

  /** A copy of its tokens. */
  get ids(): number[] {
    return [...this.tokens];
  }

  /** Its whole text. */
  text(): Promise<string> {
    return this.helium.detokenize(this.tokens);
  }

  /**
   * Continues the text, and keeps each token as it comes: those before an early end too, and those of a
   * `stop` text. One run of a session at a time.
   */
  generate(options: GenerateOptions = {}): AsyncGenerator<Token, Completion, undefined> {
    checkGenerate(this.tokens, options); // complains here, not at the first token
    return this.run(options);
  }

  /** Adds to the text, as if it had stood there from the beginning. */
  async append(text: string): Promise<void> {
    this.enter();
    try {
      this.tokens.push(...(await continuation(this.helium, text)));
    } finally {
      this.busy = false;
    }
  }

  /** Cuts the text back to its first `length` tokens. */
  truncate(length: number): void {
    if (!Number.isSafeInteger(length) || length < 0 || length > this.tokens.length) {
      throw new HeliumError('invalid-argument', `length: expected a whole number from 0 to ${this.tokens.length}, found ${String(length)}`);
    }
    this.enter();
    this.tokens.length = length;
    this.busy = false;
  }

  /** Another session with the same text so far. */
  branch(): Session {
    return new Session(this.helium, this.tokens);
  }

  private async *run(options: GenerateOptions): AsyncGenerator<Token, Completion, undefined> {
    this.enter();
    const tokens = this.helium.generate(this.tokens, options);
    try {
      for (;;) {
        const { done, value } = await tokens.next();
        if (done) return value;
        if (value.id !== undefined) this.tokens.push(value.id);
        yield value;
      }
    } finally {
      this.busy = false;
      await tokens.return(undefined as never); // a caller that leaves early stops the engine too
    }
  }

  private enter(): void {
    if (this.busy) throw new HeliumError('invalid-argument', 'session: it is being continued; wait for that, or continue a branch()');
    this.busy = true;
  }
}

export async function openSession(helium: Engine, prompt: string | ArrayLike<number>): Promise<Session> {
  return new Session(helium, typeof prompt === 'string' ? await helium.tokenize(prompt) : checkIds('prompt', prompt));
}

/**
 * The tokens of a text that goes on. Tokenizers put something in front of a whole text, a BOS or a space, so
 * it is encoded behind a character that it does not merge with.
 */
async function continuation(helium: Engine, text: string): Promise<Uint32Array> {
  for (const before of /^\s/.test(text) ? ['x', '\n'] : ['\n', 'x']) {
    const [alone, both] = await Promise.all([helium.tokenize(before), helium.tokenize(before + text)]);
    if (common(alone, both) === alone.length) return both.subarray(alone.length);
  }
  const [nothing, whole] = await Promise.all([helium.tokenize(''), helium.tokenize(text)]);
  return whole.subarray(common(nothing, whole));
}

/** How many tokens two texts begin with in common. */
function common(a: Uint32Array, b: Uint32Array): number {
  let n = 0;
  while (n < a.length && a[n] === b[n]) n += 1;
  return n;
}
