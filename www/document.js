// The text as a list of pieces: the visitor's words and the model's tokens. Pieces are never changed, only replaced,
// so that undo keeps lists of them and the page redraws only what is new. Knows nothing of the page.

/**
 * @typedef {object} Piece
 * @property {string} text
 * @property {number} run      which continuation it belongs to; 0 for the visitor's own words
 * @property {Known} [known]   what the model said of it, where that still holds
 *
 * @typedef {object} Known
 * @property {number} logprob  natural logarithm of its probability
 * @property {{ text: string, logprob: number }[]} top  the likeliest at this place
 */

export const lengthOf = (pieces) => pieces.reduce((total, { text }) => total + text.length, 0);
export const textOf = (pieces) => pieces.map(({ text }) => text).join('');

/** The pieces before `at`, and those after; a piece that `at` cuts stays the model's, but no token any more. */
export function split(pieces, at) {
  const before = [];
  const after = [];
  let start = 0;
  for (const piece of pieces) {
    const cut = at - start;
    start += piece.text.length;
    if (cut >= piece.text.length) before.push(piece);
    else if (cut <= 0) after.push(piece);
    else {
      before.push({ text: piece.text.slice(0, cut), run: piece.run });
      after.push({ text: piece.text.slice(cut), run: piece.run });
    }
  }
  return [before, after];
}

/** Neighbouring words of the visitor's as one piece. */
function joined(pieces) {
  const out = [];
  for (const piece of pieces) {
    const last = out.at(-1);
    if (piece.text === '') continue;
    if (last && last.run === 0 && piece.run === 0 && !last.known && !piece.known) out[out.length - 1] = { text: last.text + piece.text, run: 0 };
    else out.push(piece);
  }
  return out;
}

/** What follows a change was computed after other words: its probabilities no longer hold. */
const forget = (pieces) => pieces.map((piece) => (piece.known ? { text: piece.text, run: piece.run } : piece));

/** Puts `inserted` in place of what lies from `from` to `to`. */
export function replace(pieces, from, to, inserted) {
  const [before, rest] = split(pieces, from);
  const [, after] = split(rest, to - from);
  return joined([...before, ...inserted, ...forget(after)]);
}

/** The visitor's change from the old text to the new one, `caret` being where it ended. */
export function edited(pieces, next, caret) {
  const old = textOf(pieces);
  const longest = Math.min(old.length, next.length);
  let tail = 0;
  const mostTail = Math.min(longest, next.length - Math.min(caret, next.length));
  while (tail < mostTail && old[old.length - 1 - tail] === next[next.length - 1 - tail]) tail += 1;
  let head = 0;
  while (head < longest - tail && old[head] === next[head]) head += 1;
  // Not through the midst of a character.
  if (isHalf(old, head)) head -= 1;
  if (isHalf(old, old.length - tail)) tail -= 1;
  return replace(pieces, head, old.length - tail, [{ text: next.slice(head, next.length - tail), run: 0 }]);
}

/** Whether the place lies between the two code units of a character. */
const isHalf = (text, at) => /^[\uD800-\uDBFF][\uDC00-\uDFFF]/.test(text.slice(Math.max(at - 1, 0), at + 1));

/** The piece that holds the character before `at` (or after it, at the beginning), and where it starts. */
export function pieceAt(pieces, at) {
  let start = 0;
  for (const piece of pieces) {
    const end = start + piece.text.length;
    if (at <= end && (at > start || start === 0)) return { piece, start, end };
    start = end;
  }
  return undefined;
}

/** From where to where a run's pieces lie, the visitor's changes between them included. */
export function extentOf(pieces, run) {
  let start = 0;
  let extent;
  for (const piece of pieces) {
    const end = start + piece.text.length;
    if (piece.run === run) extent = { from: extent?.from ?? start, to: end };
    start = end;
  }
  return extent;
}

/** Lays what a scoring found over the same text: `tokens` are `{ text, known }` in order, and cover all of it. */
export function annotated(pieces, tokens) {
  const out = [];
  let rest = [...pieces];
  for (const { text, known } of tokens) {
    const [here, after] = split(rest, text.length);
    rest = after;
    // A token across the border of two inks is drawn as two pieces that say the same.
    for (let at = 0; at < here.length; ) {
      const { run } = here[at];
      let whole = '';
      while (at < here.length && here[at].run === run) whole += here[at++].text;
      out.push({ text: whole, run, ...(known && { known }) });
    }
  }
  return [...out, ...rest];
}

/** What can be undone and redone: states are opaque. */
export class History {
  #past = [];
  #future = [];
  #kind;
  #when = 0;

  /** Keeps `state` as what to return to; typing without a pause is one step. */
  push(state, kind) {
    const now = performance.now();
    const goesOn = kind === 'typing' && this.#kind === 'typing' && now - this.#when < 1500;
    this.#kind = kind;
    this.#when = now;
    this.#future = [];
    if (!goesOn) this.#past.push(state);
    if (this.#past.length > 200) this.#past.shift();
  }

  undo(current) {
    return this.#step(this.#past, this.#future, current);
  }

  redo(current) {
    return this.#step(this.#future, this.#past, current);
  }

  #step(from, to, current) {
    const state = from.pop();
    if (state !== undefined) to.push(current);
    this.#kind = undefined;
    return state;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }
}
