// What a page does with the package over a long time: sessions, load and close over and over, a GPU that
// goes away, a worker of its own, a strict content security policy. With a small model.

import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';

import { loseDevice, openPage, until } from './browsers.mjs';
import { check } from './harness.mjs';

const WEIGHTS = 'small/model.gguf';
/** Of load, generate, close: fewer in Chromium, whose software adapter compiles for eight seconds a round. */
const ROUNDS = (name) => Number(process.env.HELIUM_ROUNDS ?? (name === 'chromium' ? 6 : 50));
/** Rounds after which browsers have made their caches and pools; with fewer, their processes tell nothing. */
const WARM = 3;
/** What a browser's processes may differ by from one moment to another; a worker that stays takes more in few rounds. */
const NOISE = 32 << 20;
/** Times that memory is looked at, each after a second. */
const TRIES = 20;
const LIMIT = 120;

export async function testLifetime(browser, page, call) {
  const { name } = browser;
  const rounds = ROUNDS(name);

  await check(`${name}: a GPU without memory left rejects the load by name`, LIMIT, async () => {
    const { error } = await call('exhausted', WEIGHTS);
    assert.equal(error?.code, 'out-of-memory', JSON.stringify(error));
    assert.match(error.message, /out of memory; close other tabs/);
  });

  // In the same page.
  const loaded = await check(`${name}: load a small model`, LIMIT, async () => {
    const { error } = await call('load', { weights: WEIGHTS });
    assert.equal(error, undefined, error?.message);
  });
  if (!loaded) return;

  await check(`${name}: a session is cut back, branched and appended to`, LIMIT, async () => {
    const { first, again, kept, text, more, expected, whole, grown } = await call('sessions');
    assert.ok(first.length > 2 && expected.length > 0, `${first.length} and ${expected.length} tokens`);
    assert.deepEqual([...first.slice(0, 2), ...again], first, 'the same text after it was cut back');
    assert.deepEqual(kept, first);
    assert.match(text, /^Once upon a time.* And then/s);
    assert.deepEqual(more, expected);
    assert.deepEqual(grown, whole, 'appended as if it had stood there');
  });

  await check(`${name}: completions score an echoed prompt`, LIMIT, async () => {
    const prompt = 'Once upon a time';
    const { choices, usage } = await call('echoed', prompt);
    assert.deepEqual(choices.map(({ text, finish_reason }) => [text, finish_reason]), Array(2).fill([prompt, 'length']));
    const { tokens, token_logprobs, top_logprobs } = choices[0].logprobs;
    assert.equal(tokens.join(''), prompt);
    assert.equal(token_logprobs[0], null);
    for (const [at, logprob] of token_logprobs.entries()) if (at > 0) assert.ok(logprob <= Object.values(top_logprobs[at])[0]);
    assert.deepEqual(usage, { prompt_tokens: tokens.length, completion_tokens: 0, total_tokens: tokens.length });
  });

  await check(`${name}: a GPU that goes away rejects what runs, and the next load in the page works`, LIMIT, async () => {
    await call('begin');
    await loseDevice(browser, page);
    const { error } = await call('lost');
    assert.equal(error?.code, 'device-lost', JSON.stringify(error));
    const again = await call('load', { weights: WEIGHTS });
    assert.equal(again.error, undefined, again.error?.message);
  });

  await check(`${name}: ${rounds} rounds of load, generate, close keep memory flat`, rounds * 60 + LIMIT, async () => {
    const first = await call('rounds', WEIGHTS, WARM);
    const before = await memory(browser, page);
    const rest = await call('rounds', WEIGHTS, rounds - first.length);
    for (const round of [...first, ...rest]) assert.deepEqual(round, first[0], 'the engine tells the same sizes each time');
    let grown;
    // A busy browser gives back late what a device and its kernels took.
    for (let tries = 0; tries < TRIES && grown?.length !== 0; tries += 1) {
      const after = await memory(browser, page);
      grown = Object.entries(before)
        .filter(([what, bytes]) => after[what] - bytes >= (what === 'heap' ? 1 << 20 : NOISE))
        .map(([what, bytes]) => `${what}: ${bytes} bytes before, ${after[what]} after`);
    }
    assert.deepEqual(grown, []);
  });

  let strict;
  try {
    await check(`${name}: under a strict content security policy, in a worker of the page's own`, LIMIT, async () => {
      strict = await openPage(browser, new URL('/strict/strict.html', page.url()).href);
      assert.equal(await strict.evaluate((weights) => globalThis.inWorker(weights), new URL(`/${WEIGHTS}`, page.url()).href), 2);
      assert.deepEqual(strict.problems, []);
    });
  } finally {
    await strict?.close();
  }
}

/** Bytes in use, of the page's JavaScript and of all the browser's processes, where that can be told, once the page has no workers. */
async function memory({ name, browser }, page) {
  await until('all workers ended', () => page.workers().length === 0, 10_000);
  const found = {};
  if (name === 'chromium') {
    const session = await page.createCDPSession();
    await session.send('HeapProfiler.collectGarbage');
    await session.detach();
    found.heap = (await page.metrics()).JSHeapUsedSize;
  }
  await new Promise((resolve) => setTimeout(resolve, 1000)); // for processes to give back what was freed
  if (process.platform === 'linux') Object.assign(found, await proportionalBytes(browser.process().pid));
  return found;
}

/** Of the first process, and of all that descend from it, with what they share counted once. */
async function proportionalBytes(root) {
  const parents = new Map();
  for (const pid of await readdir('/proc')) {
    const status = /^\d+$/.test(pid) && (await readFile(`/proc/${pid}/status`, 'utf8').catch(() => undefined));
    if (status) parents.set(Number(pid), Number(/^PPid:\s*(\d+)/m.exec(status)[1]));
  }
  const found = { first: 0, processes: 0 };
  for (const pid of parents.keys()) {
    let above = pid;
    while (above !== root && above > 1) above = parents.get(above) ?? 0;
    if (above !== root) continue;
    const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '');
    found[pid === root ? 'first' : 'processes'] += Number(/^Pss:\s*(\d+)/m.exec(rollup)?.[1] ?? 0) * 1024;
  }
  return found;
}
