// How a model gets to the page, and the states in which it may find itself then: with a hub and an engine that take no
// time and fail on request (page/stand-in.js). The page, the package and its cache are the real ones; page.mjs has the
// real engine.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { openPage, until } from './browsers.mjs';
import { byteTokenizer } from './delivery.mjs';
import { check } from './harness.mjs';
import { serveHub } from './hub.mjs';
import { accessible, disabled, drop, errorText, facts, find, look, modelName, noProblems, outputText, paste, press, progress, promptText, setTokens, SITE, statusIs } from './page-steps.mjs';
import { serve } from './server.mjs';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const golden = (file) => readFileSync(at(`../data/goldens/helium_bf16/${file}`));
const LIMIT = 180; // seconds a case
const CHUNK = 32 << 10;
const KEPT = 5 * CHUNK; // what comes before the download is stuck
const REPO = 'kyutai/helium-1-2b-books';

export async function testStates(browser) {
  const { name } = browser;
  const weights = golden('model.safetensors');
  const digest = createHash('sha256').update(weights).digest('hex').slice(0, 16);
  const checkpoint = { 'model.safetensors': weights, 'config.json': golden('config.json'), 'tokenizer.json': byteTokenizer() };
  const hub = await serveHub({ [REPO]: checkpoint, 'someone/else': checkpoint });
  const address = `${hub.url}/someone/else/resolve/main/model.safetensors`;
  /** What the stand-in is told when a model is loaded. */
  let how = {};
  /** A file of the page that the server has lost. */
  let lost;
  /** Ends a scoring. */
  let openGate;
  const script = { 'content-type': 'text/javascript', 'cache-control': 'no-store' };
  const files = {
    '/helium/wasm/helium.js': () => readFileSync(at('page/stand-in.js')),
    '/helium/wasm/engine.js': () => readFileSync(`${SITE}/helium/wasm/helium.js`),
    '/helium/wasm/how.js': () => `export default ${JSON.stringify(how)};`,
  };
  const server = await serve({ '/': SITE, '/goldens/': at('../data/goldens') }, {
    intercept: (request, response) => {
      const { pathname } = new URL(request.url, 'http://page');
      if (pathname === lost) response.writeHead(404).end();
      else if (pathname === '/gate') openGate = () => response.end();
      else if (files[pathname]) response.writeHead(200, script).end(files[pathname]());
      else return false;
      return true;
    },
  });
  const test = (what, body) => check(`${name}: ${what}`, LIMIT, body);
  let page;

  /** Loads and writes three tokens: what the engine was given is right. */
  const writes = async (button = 'Generate') => {
    await paste(page, 'Once');
    await setTokens(page, 3);
    await press(page, button);
    await statusIs(page, /^Done: 3 tokens, 50 tokens per second\.$/, 20);
    assert.equal(await outputText(page), ` ${digest} and so`, 'what reached the engine');
  };
  const open = (query) => page.goto(`${server.url}${query}`);
  const note = () => page.$eval('#note', (line) => (line.hidden ? '' : line.textContent));

  try {
    page = await openPage(browser, 'about:blank');
    // Where the package takes its tests' hub and chunks from.
    await page.evaluateOnNewDocument((means) => {
      Object.prototype[Symbol.for('helium-webgpu.means')] = means;
    }, { hub: hub.url, chunk: CHUNK, run: 1, connections: 3, retries: 1, backoffMs: 10, stallMs: 60_000 });

    await test('“Will it fit?” is answered from the header alone', async () => {
      await open('?model=helium-books');
      await find(page, 'button', 'Will it fit?');
      assert.deepEqual(hub.requests, [], 'nothing is asked for before the visitor does');
      await press(page, 'Will it fit?');
      const text = await until('the answer', () => page.$eval('#fit-result', (box) => /download/.test(box.textContent) && box.textContent), 20_000);
      assert.match(text, /^(It should fit this device|This browser does not tell .* allow it)\. It takes \d.* of graphics memory\./);
      assert.match(text, /279 kB to download, about \d s (on this connection|at 100 Mbit\/s)\./);
      assert.ok(hub.sent < weights.length);
      await look(page, name, 'fit');
      await noProblems(page);
    });

    await test('a large model that does not fit is not downloaded', async () => {
      how = { failures: { plan: { code: 'out-of-memory', message: 'the matrices take 9 GB, but a buffer of this device holds 2 GB' } } };
      hub.reset();
      await press(page, 'Load');
      assert.match(await errorText(page), /^Not enough memory\. It does not fit this graphics card\. The matrices.*279 kB to download.* choose a smaller model/i);
      assert.equal(hub.ranges().some((range) => range?.startsWith(`bytes=${CHUNK}-`)), false, 'no chunk but the header');
      how = {};
    });

    await test('a model of the hub is downloaded, loaded and written with', async () => {
      hub.reset();
      await writes();
      assert.match(hub.requests.map(({ path }) => path).join(' '), /\/api\/models\/kyutai\/helium-1-2b-books\/tree\/main/);
      await noProblems(page);
    });

    await test('where storage is short the model works, and the page says that it is not kept', async () => {
      await open(`?weights=${encodeURIComponent(address)}`);
      await page.$eval('#shelf', (details) => {
        details.open = true;
      });
      await press(page, 'Delete model.safetensors');
      await until('the list is empty', () => page.$eval('#kept-none', (line) => !line.hidden), 10_000);
      how = { room: 50_000 };
      await writes();
      assert.match(await note(), /storage has .* left/);
      how = {};
    });

    await test('a checkpoint is dropped with its configuration and tokenizer', async () => {
      how = { gate: '/gate', contextLength: 48 };
      await open('');
      await drop(page, ['config.json', 'model.safetensors'].map((file) => [file, { url: `goldens/helium_bf16/${file}` }]).concat([['tokenizer.json', { text: `${byteTokenizer()}` }]]));
      assert.equal(await modelName(page), 'model.safetensors and 2 more');
      await writes();
    });

    await test('Stop ends the scoring at once, and what comes next follows', async () => {
      await press(page, 'Score');
      await statusIs(page, /^Scoring…$/, 5);
      await until('the engine is at it', () => openGate, 5000);
      await press(page, 'Stop');
      await statusIs(page, /^Scoring was stopped\.$/, 10);
      assert.deepEqual([await disabled(page, 'Generate'), await disabled(page, 'Stop')], [false, true]);
      await press(page, 'Generate');
      openGate();
      await statusIs(page, /^Done: 3 tokens/, 10);
    });

    await test('a text longer than the context says by how much, and can be gone on with from its end', async () => {
      const text = 'word '.repeat(60).trim();
      await paste(page, text);
      await press(page, 'Score');
      assert.match(await errorText(page), /^The text is too long\. It has 60 tokens, and this model sees 48 at a time\. Shorten it/);
      await press(page, 'Generate');
      await find(page, 'button', 'Go on from its end alone');
      assert.match(await errorText(page), /^The text is too long\. It has 60 tokens/);
      await look(page, name, 'too-long');
      await accessible(page);
      await press(page, 'Go on from its end alone');
      await statusIs(page, /^Done: 3 tokens/, 10);
      assert.equal(await promptText(page), `${text} ${digest} and so`);
      await press(page, 'Retry');
      await statusIs(page, /^Done: 3 tokens/, 10);
      how = {};
    });

    for (const [code, step, pattern, remedy] of [
      ['device-lost', 'generate', /^The graphics card was lost\. .*Your text is kept/, 'Try again'],
      ['out-of-memory', 'finish', /^Not enough memory\. .*choose a smaller model/],
      ['unsupported-model', 'push', /^Not a model for this engine\. .*Choose another model/],
      ['corrupt', 'push', /^The file is damaged\. .*Fetch it again/],
      ['no-adapter', 'open', /^No graphics card\. .*graphics driver/],
    ]) {
      await test(`${code} ends in words, and the text is kept`, async () => {
        how = { failures: { [step]: { code, message: 'said the engine' } } };
        // Another name each time, so that it is another model.
        await drop(page, [[`${code}.gguf`, { url: 'goldens/helium_bf16/model.safetensors' }]]);
        await paste(page, 'Once');
        await press(page, 'Generate');
        assert.match(await errorText(page), pattern);
        assert.match(await promptText(page), /^Once/);
        assert.equal(await progress(page), 0, 'the next Generate loads the model anew');
        await look(page, name, code);
        how = {};
        if (remedy) {
          await press(page, remedy);
          await statusIs(page, /^Ready\.$/, 10);
        }
        await writes();
      });
    }

    await test('a file is picked; an engine that does not start is told', async () => {
      lost = '/helium/worker.js';
      await (await page.$('#file')).uploadFile(at('../data/goldens/gguf_Q4_0/model.gguf'));
      await until('the file is chosen', async () => (await modelName(page)) === 'model.gguf', 5000);
      await press(page, 'Generate');
      assert.match(await errorText(page), /^The engine did not start\. .*Generate starts it anew/);
      lost = undefined;
    });

    await test('a model by address, paused, resumed, cut off half way, and gone on with on the next visit', async () => {
      await open('');
      await page.$eval('#by-address', (details) => {
        details.open = true;
      });
      await (await find(page, 'textbox', 'Address of a GGUF or safetensors file')).evaluate((field, value) => {
        field.value = value; // typing takes Firefox seconds
      }, address);
      await press(page, 'Use it');
      assert.equal(await modelName(page), 'model.safetensors');
      assert.match(await facts(page), /^From 127\.0\.0\.1:\d+, as you asked\./);

      hub.reset();
      // Slowly enough for the figures, which are told ten times a second.
      hub.behave = ({ from, send }) => (from >= 5 * CHUNK ? send({ stopAt: 0, stall: true }) : setTimeout(send, 150));
      await press(page, 'Load');
      await until('a part has come', () => page.$eval('#figures', (line) => /^\d+ kB of 279 kB/.test(line.textContent)), 10_000);
      await until('a part is kept', () => page.evaluate(async (bytes) => {
        const { Helium } = await import('/helium/index.js');
        return (await Helium.cached())[0]?.bytes >= bytes;
      }, KEPT), 20_000);
      await press(page, 'Pause');
      await statusIs(page, /^Paused\./, 5);
      const arrived = await progress(page);
      assert.ok(arrived > 0 && arrived < 1, `the bar stands at ${arrived}`);
      assert.match(await page.$eval('#figures', (line) => line.textContent), /^\d+ kB of 279 kB$/);
      await look(page, name, 'paused');

      hub.reset();
      hub.behave = ({ send }) => send({ stopAt: 0 });
      await press(page, 'Resume');
      assert.match(await errorText(page), /^The network failed\. .*What has arrived is kept/);
      assert.equal(hub.ranges().includes('bytes=0-32767'), false, 'what is kept is not asked for');
      await find(page, 'button', 'Try again');
      await look(page, name, 'network');

      hub.reset();
      await open(`?weights=${encodeURIComponent(address)}`);
      await until('the page says what is kept', async () => /1\d\d kB of it kept in this browser/.test(await facts(page)), 10_000);
      await press(page, 'Resume');
      await statusIs(page, /^Ready\.$/, 20);
      assert.ok(hub.sent <= weights.length - KEPT + 1, `${hub.sent} bytes: one asks whether the file is still the same`);
      await writes();
    });

    await test('without a network the page opens and writes with a kept model, and says why others fail', async () => {
      hub.offline = true;
      await server.close();
      await page.evaluateOnNewDocument(() => Object.defineProperty(navigator, 'onLine', { get: () => false }));
      await page.reload();
      await statusIs(page, /^model\.safetensors is kept in this browser: Generate downloads nothing\.$/, 10);
      await until('the note', async () => /You are offline/.test(await note()), 10_000);
      await writes();
      await look(page, name, 'offline');
      await page.select('#model', 'helium-hum');
      await press(page, 'Load');
      assert.match(await errorText(page), /^The network failed\./);
    });
  } finally {
    await page?.close();
    await server.close();
    await hub.close();
  }
}
