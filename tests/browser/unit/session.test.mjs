// Sessions over an engine of words: a token is a character, and a BOS comes before every text.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { openSession } from '../../../npm/dist/session.js';

const BOS = 1;
const encode = (text) => Uint32Array.from([BOS, ...Array.from(text, (c) => c.codePointAt(0))]);

function engine() {
  const prompts = [];
  return {
    prompts,
    tokenize: async (text) => encode(text),
    detokenize: async (ids) => String.fromCodePoint(...Array.from(ids).filter((id) => id !== BOS)),
    async *generate(ids, { maxTokens }) {
      prompts.push([...ids]);
      for (let i = 0; i < maxTokens; i++) yield { text: 'z', id: 122 };
      yield { text: '' };
      return { finishReason: 'length' };
    },
  };
}
const drain = async (run) => {
  for (;;) {
    const { done, value } = await run.next();
    if (done) return value;
  }
};
const invalid = (pattern) => (error) => error.code === 'invalid-argument' && pattern.test(error.message);

test('a session grows by its runs and by what is appended, with one BOS', async () => {
  const helium = engine();
  const session = await openSession(helium, 'ab');
  assert.equal((await drain(session.generate({ maxTokens: 2 }))).finishReason, 'length');
  await session.append(' c');
  await session.append('d');
  assert.equal(await session.text(), 'abzz cd');
  assert.deepEqual(session.ids.filter((id) => id === BOS), [BOS]);
  await drain(session.generate({ maxTokens: 1 }));
  assert.deepEqual(helium.prompts, [[...encode('ab')], [...encode('abzz cd')]]);
});

test('it can be cut back and branched; ids are a copy', async () => {
  const session = await openSession(engine(), [BOS, 97, 98]);
  const branch = session.branch();
  session.truncate(2);
  session.ids.push(5);
  assert.deepEqual([await session.text(), await branch.text(), session.length], ['a', 'ab', 2]);
  assert.throws(() => session.truncate(3), invalid(/^length: expected a whole number from 0 to 2, found 3/));
  assert.throws(() => session.truncate(0.5), invalid(/^length/));
});

test('a run that is left keeps the tokens so far; meanwhile nothing else may change the session', async () => {
  const session = await openSession(engine(), '');
  for await (const _ of session.generate({ maxTokens: 5 })) {
    assert.throws(() => session.truncate(0), invalid(/being continued/));
    await assert.rejects(session.generate().next(), invalid(/being continued/));
    await assert.rejects(session.append('x'), invalid(/being continued/));
    break;
  }
  assert.equal(await session.text(), 'z');
  session.truncate(0);
});

test('options are checked at once; a run that is never begun holds nothing', async () => {
  const session = await openSession(engine(), '');
  assert.throws(() => session.generate({ max: 1 }), invalid(/unknown option "max"/));
  session.generate({ maxTokens: 1 });
  session.truncate(0);
  await assert.rejects(openSession(engine(), [1, -1]), invalid(/^prompt\[1\]: expected a token id, found -1/));
  await assert.rejects(openSession(engine(), 7), invalid(/^prompt: expected token ids, found 7/));
});

test('what is appended is not merged with what the tokenizer puts in front', async () => {
  // A space in front of every text, and double line ends in one token.
  const helium = { ...engine(), tokenize: async (text) => encode(` ${text}`.replaceAll('\n\n', '\u2028')) };
  const session = await openSession(helium, 'a');
  await session.append('b');
  await session.append('\n\nc');
  assert.equal(await session.text(), ' ab\u2028c');
});
