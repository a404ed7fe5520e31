// The page's text as pieces: edits, continuations, undo. Pure, so that no browser is needed.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import test from 'node:test';

// By its text, since www/ has no package.json that would make Node take it for a module.
const source = await readFile(new URL('../../../www/document.js', import.meta.url), 'utf8');
const { annotated, edited, extentOf, History, pieceAt, replace, split, textOf } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

const known = (logprob) => ({ logprob, top: [] });
const yours = (text) => ({ text, run: 0 });
const token = (text, run = 1) => ({ text, run, known: known(-1) });
const TEXT = [yours('Once '), token('upon'), token(' a'), token(' time')];

test('a cut through a token leaves two pieces of the model’s that are no tokens', () => {
  const [before, after] = split(TEXT, 7);
  assert.deepEqual(before, [yours('Once '), { text: 'up', run: 1 }]);
  assert.deepEqual(after, [{ text: 'on', run: 1 }, TEXT[2], TEXT[3]]);
});

test('typing at the end leaves all tokens as they are', () => {
  const next = edited(TEXT, 'Once upon a time!', 17);
  assert.deepEqual(next, [...TEXT, yours('!')]);
  assert.equal(next[1], TEXT[1]);
});

test('typing in the middle takes the probabilities of what follows, not its ink', () => {
  const next = edited(TEXT, 'Once upon, a time', 10);
  assert.deepEqual(next, [TEXT[0], TEXT[1], yours(','), { text: ' a', run: 1 }, { text: ' time', run: 1 }]);
});

test('a letter typed twice lands where the cursor is', () => {
  const next = edited([yours('a'), token('aa'), yours('b')], 'aaaab', 1);
  assert.deepEqual(next.map(({ text, run }) => [text, run]), [['aa', 0], ['aa', 1], ['b', 0]]);
});

test('text of one’s own is one piece, and empty pieces vanish', () => {
  assert.deepEqual(edited([yours('ab')], 'axb', 2), [yours('axb')]);
  assert.deepEqual(edited(TEXT, '', 0), []);
  assert.deepEqual(edited([token('a😀b')], 'a😁b', 3).map(({ text }) => text), ['a', '😁', 'b']);
  assert.deepEqual(edited([token('a\u{1F600}b')], 'a\u{1FA00}b', 3).map(({ text }) => text), ['a', '\u{1FA00}', 'b']);
  assert.deepEqual(replace([], 0, 0, [yours('')]), []);
});

test('all edits give the text that was typed', () => {
  let seed = 1;
  const random = (below) => {
    seed = (seed * 48271) % 2147483647;
    return seed % below;
  };
  for (let round = 0; round < 2000; round += 1) {
    const old = textOf(TEXT);
    const from = random(old.length + 1);
    const to = from + random(old.length + 1 - from);
    const typed = 'on a'.slice(0, random(5));
    const next = old.slice(0, from) + typed + old.slice(to);
    assert.equal(textOf(edited(TEXT, next, from + typed.length)), next);
  }
});

test('the piece at the cursor is the one before it', () => {
  assert.equal(pieceAt(TEXT, 9).piece, TEXT[1]);
  assert.equal(pieceAt(TEXT, 10).start, 9);
  assert.equal(pieceAt(TEXT, 0).piece, TEXT[0]);
  assert.equal(pieceAt([], 0), undefined);
});

test('a continuation’s extent holds what was typed into it', () => {
  assert.deepEqual(extentOf([yours('a'), token('b'), yours('c'), token('d'), yours('e')], 1), { from: 1, to: 4 });
  assert.equal(extentOf(TEXT, 2), undefined);
});

test('scoring lays tokens over both inks', () => {
  const scored = annotated([yours('ab'), token('cd')], [{ text: 'a' }, { text: 'bc', known: known(-2) }, { text: 'd', known: known(-3) }]);
  assert.deepEqual(scored, [yours('a'), { text: 'b', run: 0, known: known(-2) }, { text: 'c', run: 1, known: known(-2) }, { text: 'd', run: 1, known: known(-3) }]);
});

test('undo and redo; typing without a pause is one step', () => {
  const history = new History();
  history.push('', 'command');
  history.push('a', 'typing');
  history.push('ab', 'typing');
  assert.equal(history.undo('abc'), 'a');
  assert.equal(history.redo('a'), 'abc');
  assert.equal(history.undo('abc'), 'a');
  assert.equal(history.undo('a'), '');
  assert.equal(history.canUndo, false);
  assert.equal(history.undo(''), undefined);
  history.push('', 'typing');
  assert.equal(history.canRedo, false);
});
