// What the package refuses before it starts anything, and that the refusal names the option.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { checkGenerate, checkLoad } from '../../../npm/dist/options.js';
import { Meter } from '../../../npm/dist/progress.js';

const BASE = 'https://page.example/app/';
const invalid = (pattern) => (error) => error.code === 'invalid-argument' && (pattern.test(error.message) || assert.fail(error.message));

test('weights and tokenizer are made absolute', () => {
  assert.deepEqual(checkLoad({ weights: 'm.gguf', tokenizer: '/t.json' }, BASE), {
    weights: ['https://page.example/app/m.gguf'], tokenizer: 'https://page.example/t.json', headers: {}, gpu: {}, cache: true, means: {},
  });
  assert.deepEqual(checkLoad({ weights: ['a.gguf', 'b.gguf'] }, BASE).weights, [`${BASE}a.gguf`, `${BASE}b.gguf`]);
  assert.deepEqual(checkLoad({ weights: { repo: 'a/b', quant: 'Q4_0' } }, BASE).weights, { repo: 'a/b', quant: 'Q4_0' });
});

for (const [options, pattern] of [
  [{}, /^weights: expected a URL.*found undefined/],
  [{ weights: '' }, /^weights: .*found ""/],
  [{ weights: [] }, /^weights: .*array of 0/],
  [{ weights: 'ftp://x/y' }, /^weights: expected an http/],
  [{ weights: { repo: 'a' , file: 'x' } }, /^repo: expected "owner\/name", found "a"/],
  [{ weights: { repo: 'a/b' } }, /^weights: name either a file or a quant of a\/b/],
  [{ weights: { repo: 'a/b', quants: 'x' } }, /unknown option "quants"/],
  [{ weights: 'm', quantize: 'q4_k' }, /^quantize: expected one of "q8_0", "q4_0", "q4_k_m", "q6_k", "f16", found "q4_k"/],
  [{ weights: 'm', contextLength: 0 }, /^contextLength: expected a whole number of at least 1, found 0/],
  [{ weights: 'm', gpu: { limits: 'max' } }, /^limits: expected one of "default", "adapter", found "max"/],
  [{ weights: 'm', sha256: 'abc' }, /^sha256: expected 64 hex/],
  [{ weights: 'm', tokenizer: 7 }, /^tokenizer: expected a URL or a File, found 7/],
  [{ weights: 'm', onprogress: () => 0 }, /unknown option "onprogress"; known are .*onProgress/],
]) {
  test(`load refuses ${JSON.stringify(options)}`, () => assert.throws(() => checkLoad(options, BASE), invalid(pattern)));
}

test('generation options pass through; undefined ones vanish; stop becomes a list', () => {
  assert.deepEqual(checkGenerate('x', { maxTokens: 3, topP: undefined, stop: 'a', seed: 0, logitBias: { 7: -1.5 } }),
    { maxTokens: 3, seed: 0, stop: ['a'], logitBias: [[7, -1.5]] });
  assert.deepEqual(checkGenerate('', undefined), {});
});

for (const [options, pattern] of [
  [{ maxTokens: 1.5 }, /^maxTokens: .*found 1\.5/],
  [{ temperature: NaN }, /^temperature: expected a number of at least 0, found NaN/],
  [{ temperature: -1 }, /^temperature/],
  [{ topP: 1.1 }, /^topP: expected a number from 0 to 1, found 1\.1/],
  [{ repetitionPenalty: 0 }, /^repetitionPenalty: expected a number above 0/],
  [{ logitBias: { x: 1 } }, /^logitBias/],
  [{ stop: ['a', ''] }, /^stop: .*none empty/],
  [{ maxTokens: '5' }, /^maxTokens: .*found "5"/],
  [{ max_tokens: 5 }, /unknown option "max_tokens"/],
  [{ signal: {} }, /^signal: expected an AbortSignal/],
]) {
  test(`generate refuses ${JSON.stringify(options)}`, () => assert.throws(() => checkGenerate('x', options), invalid(pattern)));
}
test('generate refuses a prompt that is neither text nor ids', () => {
  assert.throws(() => checkGenerate(undefined, {}), invalid(/^prompt: expected a text or token ids, found undefined/));
  assert.throws(() => checkGenerate([1, "2"], {}), invalid(/^prompt\[1\]: expected a token id, found "2"/));
});

test('progress tells the rate of the last seconds and the time left', () => {
  let now = 0;
  const seen = [];
  const meter = new Meter((progress) => seen.push(progress), () => now);
  meter.enter('gpu');
  meter.expect(1_000_000);
  meter.enter('weights');
  for (let step = 0; step < 100; step++) {
    now += 20;
    meter.add(1000, 'network'); // 50,000 bytes a second
  }
  const last = seen.at(-1);
  assert.equal(last.phase, 'weights');
  assert.equal(last.total, 1_000_000);
  assert.equal(last.bytesPerSecond, 50_000);
  assert.ok(Math.abs(last.etaSeconds - (1_000_000 - last.loaded) / 50_000) < 1e-9);
  assert.ok(seen.length < 25, `about ten reports a second, not one a chunk: ${seen.length} in two seconds`);
});

test('what was kept here counts as loaded, but not into the rate of the download', () => {
  let now = 0;
  const seen = [];
  const meter = new Meter((progress) => seen.push(progress), () => now);
  meter.enter('weights');
  for (let step = 0; step < 20; step++) meter.add(1_000_000, 'cache', (now += 50));
  for (let step = 0; step < 20; step++) meter.add(1000, 'network', (now += 100));
  const last = seen.at(-1);
  assert.equal(last.cached, 20_000_000);
  assert.equal(last.loaded, 20_020_000);
  assert.equal(last.bytesPerSecond, 10_000);
});
