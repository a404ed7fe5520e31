// OpenAI's shape around an engine that answers from a list.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Completions } from '../../../npm/dist/completions.js';

/** Generates `words`, one a token; notes what it is asked for. */
function engine(words, finishReason = 'length') {
  const asked = [];
  let left = 0;
  return {
    asked,
    left: () => left,
    info: { model: 'model.gguf' },
    detokenize: async (ids) => ids.map((id) => `<${id}>`).join(''),
    score: async (text, { top }) => ({ ids: [7, 8], logprobs: [null, -0.5], top: top > 0 ? [[{ text: '<8>', id: 8, logprob: -0.5 }]] : [] }),
    async *generate(prompt, options) {
      asked.push({ prompt, ...options });
      try {
        for (const [id, text] of words.entries()) yield { text, id, logprob: -id, top: [{ text, id, logprob: -id }] };
        yield { text: '!' }; // what was held back has no id
        return { finishReason, promptIds: [1, 2, 3], ids: words };
      } finally {
        left += 1;
      }
    },
  };
}
const all = async (chunks) => {
  const list = [];
  for await (const chunk of chunks) list.push(chunk);
  return list;
};

test('a whole response, with what OpenAI takes for granted', async () => {
  const helium = engine(['a', 'bc'], 'eos');
  const { id, created, ...rest } = await new Completions(helium).create({ prompt: 'p', logprobs: 1, echo: false });
  assert.match(id, /^cmpl-\w+$/);
  assert.ok(Math.abs(created - Date.now() / 1000) < 5);
  assert.deepEqual(rest, {
    object: 'text_completion',
    model: 'model.gguf',
    choices: [{
      text: 'abc!',
      index: 0,
      finish_reason: 'stop',
      logprobs: { tokens: ['a', 'bc'], token_logprobs: [-0, -1], top_logprobs: [{ a: -0 }, { bc: -1 }], text_offset: [0, 1] },
    }],
    usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 },
  });
  assert.deepEqual(helium.asked, [{ prompt: 'p', maxTokens: 16, temperature: 1, logprobs: 1 }]);
});

test('n choices for each prompt, with seeds of their own; a prompt counts once', async () => {
  const helium = engine(['x']);
  const { choices, usage } = await new Completions(helium).create({ prompt: ['p', [5]], n: 2, seed: 10, echo: true });
  assert.deepEqual(choices.map(({ index, text }) => [index, text]), [[0, 'px!'], [1, 'px!'], [2, '<5>x!'], [3, '<5>x!']]);
  assert.deepEqual(helium.asked.map(({ seed }) => seed), [10, 11, 12, 13]);
  assert.deepEqual(usage, { prompt_tokens: 6, completion_tokens: 4, total_tokens: 10 });
});

test('an echoed prompt has its own log-probabilities, and its length counts in the offsets', async () => {
  const { choices } = await new Completions(engine(['x'])).create({ prompt: 'pq', echo: true, logprobs: 1 });
  assert.deepEqual(choices[0].logprobs, {
    tokens: ['<7>', '<8>', 'x'], token_logprobs: [null, -0.5, -0], top_logprobs: [{}, { '<8>': -0.5 }, { x: -0 }], text_offset: [0, 3, 2],
  });
});

test('a stream: reasons at the end of each choice, usage where asked for', async () => {
  const completions = new Completions(engine(['a']));
  const chunks = await all(await completions.create({ prompt: 'p', n: 2, stream: true, stream_options: { include_usage: true } }));
  assert.deepEqual(chunks.flatMap(({ choices }) => choices.map(({ index, text, finish_reason }) => [index, text, finish_reason])),
    [[0, 'a', null], [0, '!', null], [0, '', 'length'], [1, 'a', null], [1, '!', null], [1, '', 'length']]);
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.deepEqual(chunks.at(-1).usage, { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 });
  assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
  const plain = await all(await completions.create({ prompt: 'p', stream: true }));
  assert.ok(plain.every((chunk) => !('usage' in chunk)));
});

test('leaving a stream stops the engine', async () => {
  const helium = engine(['a', 'b']);
  for await (const _ of await new Completions(helium).create({ prompt: 'p', stream: true })) break;
  assert.equal(helium.left(), 1);
});

for (const [request, pattern] of [
  [{ suffix: 'x' }, /"suffix" is not supported/],
  [{ best_of: 2 }, /"best_of" is not supported/],
  [{ user: 'me' }, /"user" is not supported/],
  [{ n: 0 }, /^n: expected a whole number from 1 to 128, found 0/],
  [{ prompt: null }, /^prompt: expected a text, token ids/],
  [{ prompt: [] }, /^prompt: /],
  [{ prompt: [1.5] }, /^prompt\[0\]: expected a token id, found 1\.5/],
  [{ prompt: [1], echo: true, logprobs: 0 }, /^prompt: expected a text, for echo/],
  [{ max_tokens: -1 }, /^maxTokens: /],
  [{ logit_bias: { a: 1 } }, /^logitBias: /],
]) {
  test(`completions refuse ${JSON.stringify(request)}`, () =>
    assert.rejects(new Completions(engine([])).create({ prompt: 'p', ...request }), (error) => error.code === 'invalid-argument' && pattern.test(error.message)));
}
test('null counts as absent', async () => {
  await new Completions(engine([])).create({ prompt: 'p', suffix: null, best_of: null, n: null, stop: null, stream: null });
});
