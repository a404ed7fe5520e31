// The editor: a real text box, whose own letters are transparent, over a mirror of the same text in which the model's
// words have their ink and tint. So the browser's own typing, selecting and reading aloud stay what they are, and the
// continuation is a region of its own. What the text is, is in document.js.

import { annotated, edited, extentOf, History, lengthOf, pieceAt, replace, split, textOf } from './document.js';
import { bin } from './probability.js';

/** Where animation frames are not given (another tab is in front), the text is brought up to date this often. */
const HIDDEN_MS = 250;

export class Editor extends EventTarget {
  #pieces = [];
  #history = new History();
  #run = 0;
  /** Where the continuation stands or will stand, while it has no words yet. */
  #edge = 0;
  #nodes = new WeakMap();
  #marked;
  #hovered;
  #frame;
  /** Where the model is writing, while it is. */
  #end;

  constructor({ box, frame, output, before, rest }) {
    super();
    Object.assign(this, { box, frame, output, before, rest });
    box.addEventListener('input', () => this.#typed());
    box.addEventListener('beforeinput', (event) => {
      if (event.inputType === 'historyUndo' || event.inputType === 'historyRedo') {
        event.preventDefault();
        this[event.inputType === 'historyUndo' ? 'undo' : 'redo']();
      }
    });
    box.addEventListener('keydown', (event) => {
      if (!(event.ctrlKey || event.metaKey) || event.altKey || event.isComposing) return;
      const key = event.key.toLowerCase();
      const what = key === 'z' ? (event.shiftKey ? 'redo' : 'undo') : key === 'y' ? 'redo' : undefined;
      if (!what) return;
      event.preventDefault();
      this[what]();
    });
    for (const type of ['keyup', 'click', 'select', 'focus']) box.addEventListener(type, () => this.#mark());
    frame.addEventListener('pointermove', (event) => {
      if (event.pointerType === 'mouse') this.#hover(document.elementsFromPoint(event.clientX, event.clientY).find((element) => element.piece)?.piece);
    });
    frame.addEventListener('pointerleave', () => this.#hover(undefined));
    this.#draw();
  }

  get pieces() {
    return this.#pieces;
  }

  get text() {
    return textOf(this.#pieces);
  }

  get caret() {
    return this.box.selectionEnd;
  }

  get canUndo() {
    return this.#history.canUndo;
  }

  get canRedo() {
    return this.#history.canRedo;
  }

  /** The last continuation: its number and extent. */
  get last() {
    const extent = this.#run > 0 ? this.extent(this.#run) : undefined;
    return extent && { run: this.#run, ...extent };
  }

  extent(run) {
    return extentOf(this.#pieces, run);
  }

  /** The box is the truth: something may have set its value without an event. */
  sync() {
    if (this.box.value !== this.text) this.#typed();
  }

  set(pieces, caret, kind = 'command') {
    this.#history.push(this.#state(), kind);
    this.#become(pieces, caret);
  }

  undo() {
    this.#restore(this.#history.undo(this.#state()));
  }

  redo() {
    this.#restore(this.#history.redo(this.#state()));
  }

  /** Replaces a stretch, as one step that can be undone. */
  replace(from, to, inserted, caret) {
    this.set(replace(this.#pieces, from, to, inserted), caret ?? from + lengthOf(inserted));
  }

  annotate(tokens) {
    this.#become(annotated(this.#pieces, tokens), this.caret);
  }

  /**
   * Opens a continuation at a place: `add` tokens as they come, then `end`. Drawn once a frame, however fast they come.
   * With `run`, what comes belongs to that continuation; with `first`, it begins with this piece in place of what lies up to `to`.
   */
  begin({ at, to = at, run = this.#newRun(), first }) {
    this.#history.push(this.#state(), 'run');
    this.#run = run;
    this.#edge = at;
    const inserted = first ? [{ ...first, run }] : [];
    const next = replace(this.#pieces, at, to, inserted);
    const start = at + lengthOf(inserted);
    this.#end = start;
    this.#become(next, start);
    let waiting = [];
    this.box.readOnly = true;
    this.output.setAttribute('aria-busy', 'true');

    const flush = () => {
      cancelAnimationFrame(this.#frame);
      clearTimeout(timer);
      this.#frame = undefined;
      if (waiting.length === 0) return;
      const [before, after] = split(this.#pieces, this.#end);
      const caret = this.caret;
      const isFollowing = caret >= this.#end;
      this.#end += lengthOf(waiting);
      const isInView = this.#isEndInView();
      this.#become([...before, ...waiting, ...after], isFollowing ? this.#end : caret);
      if (isInView) this.#bringEndIntoView();
      waiting = [];
    };
    let timer;
    return {
      run,
      start,
      add: (text, known) => {
        if (text === '') return;
        waiting.push({ text, run, ...(known && { known }) });
        if (this.#frame !== undefined) return;
        this.#frame = requestAnimationFrame(flush);
        timer = setTimeout(flush, HIDDEN_MS);
      },
      end: () => {
        flush();
        this.#end = undefined;
        this.box.readOnly = false;
        this.output.setAttribute('aria-busy', 'false');
        this.#mark();
      },
    };
  }

  /** Tells anew which token is pointed at. */
  point() {
    this.#mark();
  }

  #newRun() {
    return this.#pieces.reduce((most, { run }) => Math.max(most, run), this.#run) + 1;
  }

  #state() {
    return { pieces: this.#pieces, caret: this.caret, run: this.#run };
  }

  #restore(state) {
    if (!state || this.box.readOnly) return;
    this.#run = state.run;
    this.#become(state.pieces, state.caret);
  }

  #typed() {
    const next = edited(this.#pieces, this.box.value, this.box.selectionEnd);
    this.#history.push(this.#state(), 'typing');
    this.#pieces = next;
    this.#draw();
    this.#changed();
  }

  #become(pieces, caret) {
    this.#pieces = pieces;
    const text = this.text;
    if (this.box.value !== text) this.box.value = text;
    this.box.setSelectionRange(caret, caret);
    this.#draw();
    this.#changed();
  }

  #changed() {
    this.#mark();
    this.dispatchEvent(new Event('change'));
  }

  // --- drawing

  #draw() {
    const extent = (this.#run > 0 && extentOf(this.#pieces, this.#run)) || { from: this.#edge, to: this.#edge };
    const [before, others] = cutAt(this.#pieces, extent.from);
    const [within, rest] = cutAt(others, extent.to - lengthOf(before));
    this.#fill(this.before, before);
    this.#fill(this.output, within);
    this.#fill(this.rest, rest);
  }

  /** Only what differs is touched: a token appended is one node appended. */
  #fill(parent, pieces) {
    const nodes = parent.childNodes;
    let head = 0;
    while (head < nodes.length && head < pieces.length && nodes[head].piece === pieces[head]) head += 1;
    let tail = 0;
    while (tail < nodes.length - head && tail < pieces.length - head && nodes[nodes.length - 1 - tail].piece === pieces[pieces.length - 1 - tail]) tail += 1;
    while (nodes.length > head + tail) nodes[head].remove();
    const place = nodes[head] ?? null;
    for (const piece of pieces.slice(head, pieces.length - tail)) parent.insertBefore(this.#nodeOf(piece), place);
  }

  #nodeOf(piece) {
    let node = this.#nodes.get(piece);
    if (!node) {
      node = document.createElement('span');
      node.piece = piece;
      node.textContent = piece.text;
      node.className = `${piece.run > 0 ? 'theirs' : 'yours'}${piece.known ? ` p${bin(piece.known.logprob)}` : ''}`;
      this.#nodes.set(piece, node);
    }
    return node;
  }

  #isEndInView() {
    const { bottom } = this.output.getBoundingClientRect();
    return bottom > 0 && bottom <= innerHeight;
  }

  #bringEndIntoView() {
    const over = this.output.getBoundingClientRect().bottom + 24 - innerHeight;
    if (over > 0) scrollBy({ top: over });
  }

  // --- pointing

  #hover(piece) {
    if (piece === this.#hovered) return;
    this.#hovered = piece;
    this.#mark();
  }

  /** The token to show: the one under the pointer, else the one at the cursor. */
  #mark() {
    const found = pieceAt(this.#pieces, this.caret);
    const isSaying = ({ run, known }) => run > 0 || known !== undefined;
    // While the model writes, the cursor runs with its words: showing each of them would only flicker.
    const isRunning = this.#end !== undefined && this.caret >= this.#end;
    const at = found && isSaying(found.piece) && !isRunning ? found : undefined;
    const hovered = this.#hovered && isSaying(this.#hovered) ? this.#hovered : undefined;
    const shown = hovered ?? at?.piece;
    const isPinned = shown !== undefined && shown === at?.piece;
    if (this.#marked && this.#marked !== shown) this.#nodes.get(this.#marked)?.classList.remove('current');
    if (shown) this.#nodes.get(shown)?.classList.add('current');
    this.#marked = shown;
    this.dispatchEvent(new CustomEvent('token', { detail: { piece: shown, isPinned, start: isPinned ? at.start : undefined } }));
  }
}

/**
 * As `split`, but at a border between pieces, which extents always are, save where an edge lies within the visitor's
 * words; a token that was scored stays whole even so, or it would lose what is known of it.
 */
function cutAt(pieces, at) {
  let start = 0;
  for (const [nth, piece] of pieces.entries()) {
    if (start >= at) return [pieces.slice(0, nth), pieces.slice(nth)];
    if (start + piece.text.length > at) return piece.known ? [pieces.slice(0, nth), pieces.slice(nth)] : split(pieces, at);
    start += piece.text.length;
  }
  return [pieces, []];
}
