// How weights arrive and stay: downloads that go wrong in every way a hub's can, and what the browser
// keeps of them. A model of 279 kB in chunks of 32 KiB stands for a large one, and mostly a digest of what
// reaches the engine for the engine; SmolLM2 stands for itself.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { openPage, until } from './browsers.mjs';
import { check } from './harness.mjs';
import { serveHub } from './hub.mjs';
import { serve } from './server.mjs';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const golden = (name) => readFileSync(at(`../data/goldens/${name}`));
const CHUNK = 32 << 10;
const LIMIT = 60; // seconds a case
const SLOW = 300; // where a software adapter compiles and computes
const TEXT = 'abcabc';
/** As `helium score` has it of SmolLM2; the texts of the f32 reference are longer, and are the native tests' business. */
const REAL = { text: 'The capital of France is Paris.', meanNll: 2.56796 };
/** As in tests/cli.rs. */
const NLL_TOLERANCE = 0.01;
const REPO = { repo: 'maker/small', file: 'model.safetensors' };
const SECOND = { repo: 'maker/small', file: 'other/model.safetensors' };

/** A tokenizer for random weights: one token a byte. */
export function byteTokenizer() {
  const printable = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let extra = 256;
  const letters = Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : extra++));
  return Buffer.from(JSON.stringify({
    version: '1.0', truncation: null, padding: null, added_tokens: [], normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, byte_fallback: false,
      vocab: Object.fromEntries(letters.map((letter, id) => [letter, id])), merges: [] },
  }));
}

export async function testDelivery(browser, model) {
  const { name } = browser;
  const weights = golden('helium_bf16/model.safetensors');
  const small = { 'config.json': golden('helium_bf16/config.json'), 'tokenizer.json': byteTokenizer() };
  const under = (folder, files) => Object.fromEntries(Object.entries(files).map(([path, bytes]) => [folder + path, bytes]));
  const gguf = golden('gguf_F32/model.gguf');
  const hub = await serveHub({
    'maker/small': { 'model.safetensors': weights, ...small, ...under('other/', { 'model.safetensors': weights, ...small }) },
    'maker/ggufs': { 'm-F32.gguf': gguf, 'm-Q8_0.gguf': golden('gguf_Q8_0/model.gguf'), 'tokenizer.json': small['tokenizer.json'] },
    'maker/shards': Object.fromEntries(
      [...[1, 2, 3].map((nth) => `model-0000${nth}-of-00003.safetensors`), 'config.json', 'model.safetensors.index.json']
        .map((file) => [file, golden(`helium_f32_gqa/${file}`)])
        .concat([['tokenizer.json', small['tokenizer.json']]])),
    'maker/real': { 'smol.gguf': readFileSync(model) },
  });
  const server = await serve({ '/': at('delivery'), '/helium/': at('../../npm/dist'), '/goldens/': at('../data/goldens') });
  const means = { hub: hub.url, chunk: CHUNK, run: 1, connections: 3, retries: 3, backoffMs: 10, stallMs: 10_000 };
  const right = createHash('sha256').update(weights).digest('hex');
  let page;

  const step = (which, argument, on = page) => on.evaluate((...given) => globalThis.step(...given), which, argument);
  const load = (options = {}, more = {}, on = page) => step('load', { options: { weights: REPO, ...options }, means, ...more }, on);
  const clean = async () => {
    hub.reset();
    const { error } = await step('deleteCached');
    assert.equal(error, undefined, error?.message);
  };
  const loadsRight = async (options, more, on) => {
    const { value, error } = await load(options, more, on);
    assert.equal(error, undefined, error?.message);
    assert.equal(value.info.sha256, right, 'what reached the engine');
    const last = value.progress.at(-1);
    assert.equal(last.loaded, weights.length, 'bytes loaded');
    return { cached: last.cached ?? 0, notes: value.info.notes };
  };
  const fails = async (code, pattern, options, more) => {
    const { value, error } = await load(options, more);
    assert.ok(error, `it loaded: ${JSON.stringify(value?.info)}`);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
  };
  const test = (what, body, limit = LIMIT) => check(`${name}: ${what}`, limit, async () => {
    await clean();
    await body();
  });
  /** The weights are not among what is kept. */
  const dropped = async () => assert.deepEqual(await step('cached'), []);

  try {
    page = await openPage(browser, server.url);
    page.setDefaultTimeout(SLOW * 1000);

    await test('the engine scores a model alike from the hub and from what is kept of it', async () => {
      const score = async (options) => {
        const { value, error } = await load(options, { text: TEXT });
        assert.equal(error, undefined, error?.message);
        return { ...value, cached: value.progress.at(-1).cached ?? 0 };
      };
      const plain = await score({ cache: false });
      assert.ok(plain.logprobs.length > 3 && plain.logprobs.slice(1).every((each) => each < 0 && Number.isFinite(each)), JSON.stringify(plain.logprobs));
      await loadsRight();
      const kept = await score();
      assert.deepEqual(kept.logprobs, plain.logprobs);
      assert.deepEqual([plain.cached, kept.cached], [0, weights.length]);
    }, SLOW);

    // --- the network

    await test('a hub file comes by parallel ranges of another origin, which sees none of the headers', async () => {
      const { notes } = await loadsRight({ headers: { authorization: 'Bearer secret', 'x-team': 'secret' } });
      assert.deepEqual(notes, []);
      assert.deepEqual([...hub.ranges()].sort(), Array.from({ length: 9 }, (_, nth) => `bytes=${nth * CHUNK}-${Math.min((nth + 1) * CHUNK, weights.length) - 1}`).sort());
      for (const { at: where, headers } of hub.requests) {
        if (where === 'cdn') assert.ok(!JSON.stringify(headers).includes('secret'), JSON.stringify(headers));
      }
      assert.ok(hub.requests.some(({ at: where, headers }) => where === 'hub' && headers['x-team'] === 'secret' && headers.authorization === 'Bearer secret'));
      assert.equal(hub.requests.filter(({ path }) => path.includes('resolve/main/model')).length <= 2, true, 'resolved once');
    });

    for (const [what, behave, most, more] of [
      ['a server without ranges', ({ send }) => send({ ranges: false }), 1],
      ['a server that hides its headers', ({ send }) => send({ hide: true }), 9],
      ['connections cut half way', ({ nth, send }) => send(nth % 2 ? { stopAt: CHUNK / 2 } : {}), 30],
      ['a stream without ranges that is cut', ({ nth, send }) => send({ ranges: nth > 1, stopAt: nth === 1 ? 100_000 : Infinity }), 2],
      ['a connection that falls silent', ({ nth, send }) => send(nth === 3 ? { stopAt: 1000, stall: true } : {}), 12, { means: { ...means, stallMs: 400 } }],
      ['429 with Retry-After', ({ nth, send, response }) => (nth === 2 ? response.writeHead(429, { 'access-control-allow-origin': '*', 'access-control-expose-headers': 'Retry-After', 'retry-after': '1' }).end() : send()), 10],
      ['500 for a moment', ({ nth, send, response }) => (nth % 3 === 1 ? response.writeHead(500, { 'access-control-allow-origin': '*' }).end() : send()), 16],
    ]) {
      await test(`the model arrives in spite of ${what}`, async () => {
        hub.behave = behave;
        const started = Date.now();
        await loadsRight({}, more);
        assert.ok(hub.ranges().length <= most, `${hub.ranges().length} requests`);
        if (what.startsWith('429')) assert.ok(Date.now() - started >= 1000);
        const [kept] = await step('cached');
        assert.equal(kept.complete, true);
      });
    }

    await test('the model arrives although signed addresses expire', async () => {
      let given = 0;
      hub.behave = ({ send }) => {
        given += 1;
        if (given === 3 || given === 6) hub.expire();
        send();
      };
      await loadsRight();
      assert.ok(hub.requests.filter(({ path }) => path.includes('resolve/main/model')).length >= 3, 'resolved again');
    });

    for (const [what, code, pattern, behave, options] of [
      ['500 for ever', 'network', /model\.safetensors: HTTP status 500; gave up after 3 retries/, ({ response }) => response.writeHead(500, { 'access-control-allow-origin': '*' }).end()],
      ['a shorter file than the hub says', 'corrupt', /model\.safetensors/, ({ send }) => send({ file: weights.subarray(0, 150_000) })],
      ['a file that ends too soon, again and again', 'network', /gave up after 3 retries/, ({ send }) => send({ stopAt: 0 })],
      ['another version from the third chunk on', 'corrupt', /changed on the server.*ETag/, ({ nth, send }) => send({ etag: nth < 3 ? '"a"' : '"b"' })],
      ['a flipped bit', 'corrupt', /expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}/, ({ send, bytes }) => {
        const flipped = Buffer.from(bytes);
        flipped[200_000] ^= 1;
        send({ file: flipped });
      }],
      ['a file that is not there', 'network', /none\.safetensors: HTTP status 404/, ({ send }) => send(), { weights: { ...REPO, file: 'none.safetensors' } }],
      ['another digest than the caller expects', 'corrupt', /expected sha256 00000/, ({ send }) => send(), { sha256: '0'.repeat(64) }],
    ]) {
      await test(`${what} is an error, and nothing of it is kept`, async () => {
        hub.behave = behave;
        await fails(code, pattern, options);
        await dropped();
        hub.reset();
        if (!options) await loadsRight();
      });
    }

    // --- what is kept

    await test('a second visit asks for nothing but the listing, and one without a network for nothing', async () => {
      await loadsRight();
      hub.reset();
      const second = await loadsRight();
      assert.equal(second.cached, weights.length);
      assert.deepEqual(hub.ranges(), []);
      hub.reset();
      hub.offline = true;
      await page.reload();
      const { cached, notes } = await loadsRight();
      assert.equal(cached, weights.length);
      assert.deepEqual(notes, []);
    });

    await test('without the listing, an ETag tells whether the kept file is the newest', async () => {
      hub.listed = false;
      await loadsRight();
      hub.requests = [];
      const { cached } = await loadsRight();
      assert.equal(cached, weights.length);
      assert.deepEqual(hub.ranges(), ['bytes=0-0']);
      hub.behave = ({ send }) => send({ etag: '"newer"' });
      hub.requests = [];
      assert.equal((await loadsRight()).cached, 0);
      assert.equal(hub.ranges().length, 10);
    });

    await test('an interrupted download goes on after a reload', async () => {
      let stuck;
      hub.behave = ({ from, send }) => send(from >= 5 * CHUNK ? { stopAt: 0, stall: (stuck = true) } : {});
      const broken = load({}, { means: { ...means, stallMs: 60_000 } }).catch(() => undefined);
      await until('the download is stuck', () => stuck && hub.ranges().length === 5 + means.connections);
      await until('a part is kept', async () => (await step('cached'))[0]?.bytes > 5 * CHUNK);
      const [kept] = await step('cached');
      assert.equal(kept.complete, false);
      await page.reload();
      await broken;
      hub.reset();
      const { cached } = await loadsRight();
      assert.equal(cached, 5 * CHUNK);
      assert.equal(hub.ranges()[0], `bytes=${5 * CHUNK}-${6 * CHUNK - 1}`);
      assert.equal(hub.sent, weights.length - 5 * CHUNK);
    });

    await test('an interrupted download starts anew where the file has changed', async () => {
      hub.listed = false;
      hub.behave = ({ from, send }) => send(from >= 6 * CHUNK ? { stopAt: 0, etag: '"a"' } : { etag: '"a"' });
      await fails('network', /gave up/);
      hub.behave = ({ send }) => send({ etag: '"b"' });
      assert.equal((await loadsRight()).cached, 0);
    });

    for (const [what, damage, kept] of [
      ['cut', { size: 3 * CHUNK + 100 }, 3],
      ['emptied', { size: 0 }, 0],
      ['damaged by a bit', { flip: 5 * CHUNK + 7 }, 5],
    ]) {
      await test(`a kept file that was ${what} is fetched again from there on`, async () => {
        await loadsRight();
        await step('damage', damage);
        hub.reset();
        assert.equal((await loadsRight()).cached, kept * CHUNK);
        assert.equal(hub.sent, weights.length - kept * CHUNK);
        hub.reset();
        assert.equal((await loadsRight()).cached, weights.length);
        assert.equal(hub.sent, 0);
      });
    }

    await test('a kept file that does not have the digest asked for is fetched again, once', async () => {
      hub.listed = false;
      const flipped = Buffer.from(weights);
      flipped[200_000] ^= 1;
      hub.behave = ({ send }) => send({ file: flipped, etag: '"same"' });
      const { error } = await load();
      assert.equal(error, undefined, 'without a digest nobody can tell');
      hub.reset();
      hub.behave = ({ send }) => send({ etag: '"same"' });
      const { notes } = await loadsRight();
      assert.match(notes.join(), /was fetched again \(model\.safetensors: expected sha256/);
    });

    await test('what is kept of a file that had the right digest counts only as a part once a bit is wrong', async () => {
      await loadsRight();
      await step('damage', { flip: 5 * CHUNK + 7 });
      const flipped = Buffer.from(weights);
      flipped[200_000] ^= 1;
      hub.behave = ({ send }) => send({ file: flipped, etag: '"other"' });
      await fails('corrupt', /expected sha256/);
      hub.reset();
      await loadsRight();
    });

    await test('requests grow where the line is fast', async () => {
      await loadsRight({}, { means: { ...means, run: undefined } });
      const lengths = hub.ranges().map((range) => range.match(/\d+/g).map(Number)).map(([from, to]) => to + 1 - from);
      assert.equal(lengths[0], CHUNK);
      assert.ok(Math.max(...lengths) > CHUNK && Math.max(...lengths) <= 4 * CHUNK, String(lengths));
      assert.equal(hub.sent, weights.length);
    });

    await test('a model is kept though it cannot be noted when it was used', async () => {
      await loadsRight();
      const patch = "FileSystemFileHandle.prototype.createWritable = async () => { throw new DOMException('full', 'QuotaExceededError'); };";
      assert.equal((await loadsRight({}, { patch })).cached, weights.length);
      assert.equal((await step('cached'))[0]?.complete, true);
    });

    await test('a model that was loaded with its own vocabulary is, without a network', async () => {
      const options = { weights: { repo: 'maker/ggufs', file: 'm-Q8_0.gguf' }, tokenizer: `${hub.url}/maker/none/resolve/main/tokenizer.json` };
      const loads = async () => {
        const { value, error } = await load(options);
        assert.equal(error, undefined, error?.message);
        assert.match(value.info.notes.join(), /own vocabulary is used instead/);
      };
      await loads();
      hub.offline = true;
      await loads();
    });

    await test('a tokenizer that another origin compresses is read', async () => {
      hub.compresses = true;
      await loadsRight();
      assert.ok(hub.requests.some(({ path }) => path.endsWith('tokenizer.json')));
    });

    await test('what is kept stays until there is something in its place', async () => {
      hub.listed = false;
      await loadsRight();
      hub.reset();
      hub.listed = false;
      hub.behave = ({ nth, send, response }) => (nth === 1 ? send({ etag: '"newer"' }) : response.writeHead(500, { 'access-control-allow-origin': '*' }).end());
      await fails('network', /status 500/);
      hub.reset();
      hub.offline = true;
      assert.equal((await loadsRight()).cached, weights.length);
    });

    await test('two tabs at once: both load, one keeps', async () => {
      let go;
      const gate = new Promise((resolve) => (go = resolve));
      hub.behave = async ({ nth, send }) => {
        if (nth === 6) await gate;
        send();
      };
      const slow = { means: { ...means, stallMs: 60_000 } };
      const first = loadsRight({}, slow);
      await until('the first tab is half way', () => hub.ranges().length >= 6);
      const other = await openPage(browser, server.url);
      try {
        const { notes } = await loadsRight({}, {}, other);
        assert.match(notes.join(), /another tab/);
        go();
        assert.deepEqual((await first).notes, []);
        hub.reset();
        const both = await Promise.all([loadsRight(), loadsRight({}, {}, other)]);
        assert.deepEqual(both.map(({ cached }) => cached), [weights.length, weights.length]);
      } finally {
        go();
        await other.close();
      }
    });

    for (const [what, patch, pattern] of [
      ['too small', 'StorageManager.prototype.estimate = async () => ({ quota: 100_000, usage: 50_000 });', /storage has 1 MB left, of 1 MB needed/],
      ['full half way', `let left = 5;
        const write = FileSystemSyncAccessHandle.prototype.write;
        FileSystemSyncAccessHandle.prototype.write = function (...given) {
          if (--left < 0) throw new DOMException('full', 'QuotaExceededError');
          return write.apply(this, given);
        };`, /storage is full/],
      ['refused', "StorageManager.prototype.getDirectory = async () => { throw new DOMException('no', 'SecurityError'); };", /gives no storage here \(SecurityError\)/],
    ]) {
      await test(`where storage is ${what}, the model loads and says that it is not kept`, async () => {
        const { notes } = await loadsRight({}, { patch });
        assert.match(notes.join(), pattern);
        if (what !== 'full half way') return dropped();
        // What was kept before stays, and counts.
        const [{ complete }] = await step('cached');
        assert.equal(complete, false);
        const { cached } = await loadsRight();
        assert.ok(cached > 0 && cached < weights.length, `${cached} bytes`);
        assert.equal((await step('cached'))[0].complete, true);
      });
    }

    await test('data that nothing vouches for is deleted', async () => {
      await loadsRight();
      await step('forget');
      assert.notDeepEqual(await step('stored'), {});
      await dropped();
      assert.deepEqual(await step('stored'), {});
    });

    await test('cache: false keeps nothing', async () => {
      await loadsRight({ cache: false });
      assert.deepEqual(await step('stored'), {});
    });

    await test('kept models are listed and deleted, one or all', async () => {
      await loadsRight();
      await loadsRight({ weights: SECOND });
      const both = await step('cached');
      assert.equal(both.length, 2);
      assert.ok(both[0].url.includes('/other/') && both[0].lastUsed > both[1].lastUsed, 'the last used first');
      for (const { name: file, bytes, complete } of both) {
        assert.deepEqual({ file, complete }, { file: 'model.safetensors', complete: true });
        assert.ok(bytes > weights.length && bytes < weights.length + 20_000, `${bytes} bytes with the small files`);
      }
      await step('deleteCached', both[1]);
      assert.deepEqual((await step('cached')).map(({ url }) => url), [both[0].url]);
      hub.reset();
      assert.equal((await loadsRight({ weights: SECOND })).cached, weights.length);
      await step('deleteCached');
      assert.deepEqual(await step('stored'), {});
    });

    await test('shards of the hub are kept as one model; of a commit, they are used without a request', async () => {
      const options = { weights: { repo: 'maker/shards', file: 'model.safetensors.index.json', revision: 'c'.repeat(40) } };
      hub.behave = ({ path, send }) => send(path.includes('-00003-of') ? { stopAt: 0 } : {});
      await fails('network', /-00003-of/, options);
      const [part] = await step('cached');
      assert.deepEqual([part.name, part.complete], ['model-00001-of-00003.safetensors', false]);
      hub.reset();
      const first = await load(options);
      assert.equal(first.error, undefined, first.error?.message);
      assert.equal(hub.requests.filter(({ path }) => /-0000[12]-of/.test(path)).length, 0);
      assert.deepEqual((await step('cached')).map(({ complete }) => complete), [true]);
      hub.reset();
      const second = await load(options);
      assert.equal(second.value?.info.sha256, first.value.info.sha256);
      assert.deepEqual(hub.requests, []);
    });

    // --- files, and what a check says

    await test('a folder of shards from disk is put in order', async () => {
      const shards = [3, 1, 2].map((nth) => `model-0000${nth}-of-00003.safetensors`);
      const pick = (files) => step('pick', files.map((file) => `goldens/helium_f32_gqa/${file}`));
      const sha = createHash('sha256');
      for (const shard of [...shards].sort()) sha.update(golden(`helium_f32_gqa/${shard}`));
      const expected = sha.digest('hex');
      for (const beside of [['config.json', 'model.safetensors.index.json'], ['config.json']]) {
        await pick([...shards, ...beside]);
        const { value, error } = await load({ weights: 'blobs' });
        assert.equal(error, undefined, error?.message);
        assert.equal(value.info.sha256, expected);
      }
      await pick(shards);
      await fails('invalid-argument', /config\.json is needed/, { weights: 'blobs' });
      await pick([shards[0], 'config.json', 'model.safetensors.index.json']);
      await fails('invalid-argument', /names model-00001-of-00003\.safetensors, which is not among the files/, { weights: 'blobs' });
    });

    await test('a float checkpoint from disk is quantised while it streams', async () => {
      await step('pick', ['config.json', 'model.safetensors'].map((file) => `goldens/helium_bf16/${file}`));
      const tokenizer = `${hub.url}/maker/small/resolve/main/tokenizer.json`;
      const { value, error } = await load({ weights: 'blobs', tokenizer, quantize: 'q8_0' }, { text: TEXT });
      assert.equal(error, undefined, error?.message);
      assert.match(value.info.quantization, /q8_0/i);
    }, SLOW);

    await test('a check reads the header alone, and tells what the model takes', async () => {
      const found = await step('check', { options: { weights: { repo: 'maker/ggufs', quant: 'F32' } }, means });
      assert.equal(found.ok, true, found.message);
      assert.equal(found.model.quantization.toUpperCase().includes('F32'), true, found.model.quantization);
      assert.ok(found.model.gpuBytes >= found.model.weightBytes + found.model.kvBytes && found.model.weightBytes > 300_000);
      assert.deepEqual({ bytes: found.download.bytes, cached: found.download.cached }, { bytes: gguf.length, cached: 0 });
      assert.ok(found.download.quotaBytes > 1e6);
      assert.deepEqual(await step('stored'), {});
    });

    await test('a check names the smaller files of the repository that fit', async () => {
      const plan = async (quant) => (await step('check', { options: { weights: { repo: 'maker/ggufs', quant }, contextLength: 64 }, means })).model.gpuBytes;
      const memory = ((await plan('F32')) + (await plan('Q8_0'))) / 2;
      const patch = `Object.defineProperty(WorkerNavigator.prototype, 'deviceMemory', { get: () => ${memory / 2 ** 30} });`;
      const found = await step('check', { options: { weights: { repo: 'maker/ggufs', quant: 'F32' }, contextLength: 64 }, means, patch });
      assert.deepEqual([found.ok, found.fits], [true, 'unlikely']);
      assert.deepEqual(found.smaller, [{ file: 'm-Q8_0.gguf', bytes: golden('gguf_Q8_0/model.gguf').length }]);
    });

    await test('a check says why not', async () => {
      const long = await step('check', { options: { weights: REPO, contextLength: 1e9 }, means });
      assert.equal(long.ok, false, JSON.stringify(long));
      const none = await step('check', { options: { weights: { repo: 'maker/ggufs', quant: 'Q2_K' } }, means });
      assert.deepEqual({ ok: none.ok, code: none.code }, { ok: false, code: 'invalid-argument' });
      assert.match(none.message, /it has m-F32\.gguf, m-Q8_0\.gguf/);
    });

    // --- a real model

    await test('SmolLM2: checked, interrupted, resumed after a reload, scored as natively', async () => {
      const options = { weights: { repo: 'maker/real', file: 'smol.gguf' } };
      const size = readFileSync(model).length;
      const CHUNK = 8 << 20;
      const real = { means: { ...means, chunk: CHUNK, connections: 4, stallMs: 60_000 } };
      const { model: plan, message } = await step('check', { options, means: real.means });
      assert.equal(plan?.architecture, 'llama', message);
      assert.ok(hub.sent < 10e6, `${hub.sent} bytes for the header`);

      let stuck;
      hub.reset();
      hub.behave = ({ from, send }) => send(from >= 5 * CHUNK ? { stopAt: 0, stall: (stuck = true) } : {});
      load(options, real).catch(() => undefined);
      await until('the download is stuck', () => stuck && hub.ranges().length === 5 + real.means.connections);
      await until('a part is kept', async () => (await step('cached'))[0]?.bytes > 5 * CHUNK);
      await page.reload();
      hub.reset();
      const { value, error } = await load(options, { ...real, text: REAL.text });
      assert.equal(error, undefined, error?.message);
      assert.equal(hub.ranges()[0], `bytes=${5 * CHUNK}-${6 * CHUNK - 1}`);
      assert.equal(hub.sent, size - 5 * CHUNK);
      assert.equal(value.progress.at(-1).cached, 5 * CHUNK);
      assert.ok(Math.abs(value.meanNll - REAL.meanNll) < NLL_TOLERANCE, `mean NLL ${value.meanNll}, natively ${REAL.meanNll}`);

      hub.reset();
      const again = await load(options, real);
      assert.equal(again.value?.info.sha256, createHash('sha256').update(readFileSync(model)).digest('hex'));
      assert.equal(hub.sent, 0);
    }, SLOW);

    await check(`${name}: no error reached the console`, 5, async () => {
      // Of requests that fail, which these tests cause, browsers write lines of their own.
      assert.deepEqual(page.problems.filter((line) => !/CORS|Cross-Origin|net::|NetworkError/.test(line)), []);
    });
  } finally {
    await page?.close();
    await server.close();
    await hub.close();
  }
}
