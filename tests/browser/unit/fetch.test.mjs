// The package's downloads against a local server that misbehaves in the ways real ones do.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { openBlob, readAll } from '../../../npm/dist/fetch.js';
import { chooseQuant } from '../../../npm/dist/hub.js';
import { Files } from '../../../npm/dist/open.js';
import { resolveSource } from '../../../npm/dist/source.js';

// 300,001 bytes that differ by position, so that a piece lost, doubled or moved shows.
const FILE = Uint8Array.from({ length: 300_001 }, (_, at) => (at * 31 + (at >> 8) * 7) & 255);
const sha = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** @type {(request, response, nth: number) => void} the nth answer of the present test, from 1 */
let behave;
let requests = [];
let server;
let url;

before(async () => {
  server = createServer((request, response) => {
    requests.push(request);
    behave(request, response, requests.length);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${server.address().port}/folder/model.gguf`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

const FAST = { headers: {}, retries: 3, backoffMs: 1, run: 1, stallMs: 10_000 };

const openUrl = (address, transfer) => new Files(transfer).open({ url: address, weights: 1 });

async function download(how, transfer = FAST) {
  behave = how;
  requests = [];
  return readAll(await openUrl(url, transfer));
}

/** Sends what the request's Range asks for, or the first `count` bytes of that and then cuts the connection. */
function send(request, response, { count = Infinity, file = FILE, etag = '"a"', ranges = true, hide = false } = {}) {
  const [, first, last] = (ranges && /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')) || [];
  const from = Number(first ?? 0);
  const to = last ? Math.min(Number(last) + 1, file.length) : file.length;
  const headers = { 'content-length': to - from, etag };
  if (first !== undefined && !hide) headers['content-range'] = `bytes ${from}-${to - 1}/${file.length}`;
  response.writeHead(first === undefined ? 200 : 206, headers);
  const body = file.subarray(from, Math.min(to, from + count));
  if (from + body.length === to) response.end(body);
  else response.write(body, () => setTimeout(() => response.destroy(), 20));
}

const refused = (code, pattern) => (error) => {
  assert.equal(error.code, code, error.message);
  assert.match(error.message, pattern);
  return true;
};

test('a whole file arrives once, in order', async () => {
  assert.equal(sha(await download(send)), sha(FILE));
  assert.equal(requests.length, 1);
});

test('a browser that cannot read into given memory brings the file too', async () => {
  const { getReader } = ReadableStream.prototype;
  ReadableStream.prototype.getReader = function (options) {
    if (options?.mode === 'byob') throw new TypeError('no byte stream');
    return getReader.call(this, options);
  };
  try {
    assert.equal(sha(await download(send, { ...FAST, chunk: 20_000, connections: 3 })), sha(FILE));
  } finally {
    ReadableStream.prototype.getReader = getReader;
  }
});

test('where ranges are allowed, several are under way at a time, and the bytes come in order', async () => {
  let open = 0;
  let most = 0;
  const delays = [30, 5, 60, 0, 20];
  const bytes = await download((request, response, nth) => {
    most = Math.max(most, ++open);
    response.on('close', () => (open -= 1));
    setTimeout(() => send(request, response), delays[nth % delays.length]);
  }, { ...FAST, chunk: 20_000, connections: 3 });
  assert.equal(sha(bytes), sha(FILE));
  assert.equal(requests.length, Math.ceil(FILE.length / 20_000));
  assert.equal(most, 3);
});

test('no more is fetched than the reader is about to need', async () => {
  behave = send;
  requests = [];
  const file = await openUrl(url, { ...FAST, chunk: 10_000, connections: 2 });
  await file.pieces.next();
  while (requests.length < 3) await new Promise((resolve) => setTimeout(resolve, 10));
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(requests.length, 3, 'the one read and two ahead');
  await file.pieces.return();
});

test('where the size is hidden, one stream brings the file', async () => {
  const bytes = await download((request, response) => send(request, response, { hide: true }), { ...FAST, chunk: 50_000 });
  assert.equal(sha(bytes), sha(FILE));
  assert.deepEqual(requests.map(({ headers }) => headers.range), ['bytes=0-49999', undefined]);
});

test('chunks of parallel downloads resume on their own', async () => {
  const bytes = await download((request, response, nth) => send(request, response, { count: nth % 2 ? 7000 : Infinity }), { ...FAST, chunk: 30_000, connections: 3 });
  assert.equal(sha(bytes), sha(FILE));
});

test('a signed address that expires is resolved anew', async () => {
  const served = new Map(); // signature → requests it has served; it expires after four
  const bytes = await download((request, response) => {
    const given = new URL(request.url, url).searchParams.get('signature');
    if (given === null) {
      const signature = String(served.size);
      served.set(signature, 0);
      return response.writeHead(302, { location: `/signed?signature=${signature}` }).end();
    }
    served.set(given, served.get(given) + 1);
    if (served.get(given) > 4) return response.writeHead(403).end();
    send(request, response);
  }, { ...FAST, chunk: 20_000, connections: 2 });
  assert.equal(sha(bytes), sha(FILE));
  assert.ok(served.size >= 4 && served.size < 12, `resolved ${served.size} times`);
});

test('a small file is asked for as a whole, so that it may come compressed', async () => {
  behave = (request, response) => response.writeHead(200, { 'content-encoding': 'gzip', etag: '"a"' }).end(gzipSync(FILE));
  requests = [];
  assert.equal(sha(await new Files(FAST).whole({ url })), sha(FILE));
  assert.deepEqual(requests.map(({ headers }) => headers.range), [undefined]);
});

test('a part of a compressed body is not taken for a part of the file', async () => {
  const bytes = await download((request, response) => {
    const zipped = gzipSync(FILE);
    const headers = { 'content-encoding': 'gzip', 'content-length': zipped.length };
    if (request.headers.range) return response.writeHead(206, { ...headers, 'content-range': `bytes 0-${zipped.length - 1}/${zipped.length}` }).end(zipped);
    response.writeHead(200, headers).end(zipped);
  });
  assert.equal(sha(bytes), sha(FILE));
});

test('an empty file is no error', async () => {
  const bytes = await download((request, response) => (request.headers.range ? response.writeHead(416).end() : response.writeHead(200, { 'content-length': 0 }).end()));
  assert.equal(bytes.length, 0);
});

test('a dropped connection resumes at the byte it had reached', async () => {
  const bytes = await download((request, response, nth) => send(request, response, { count: nth < 4 ? 70_000 : Infinity }));
  assert.equal(sha(bytes), sha(FILE));
  assert.ok(requests.length >= 4);
  assert.match(requests[1].headers.range, /^bytes=[1-9]\d*-300000$/);
});

test('a server without ranges is read from its start and the known part dropped', async () => {
  const bytes = await download((request, response, nth) => send(request, response, { ranges: false, count: nth === 1 ? 100_000 : Infinity }));
  assert.equal(sha(bytes), sha(FILE));
  assert.equal(requests.length, 2);
});

test('a stalled connection counts as dropped', async () => {
  const bytes = await download((request, response, nth) => {
    if (nth > 1) return send(request, response);
    response.writeHead(200, { 'content-length': FILE.length, etag: '"a"' });
    response.write(FILE.subarray(0, 50_000)); // and then silence
  }, { ...FAST, stallMs: 300 });
  assert.equal(sha(bytes), sha(FILE));
  assert.match(requests[1].headers.range, /^bytes=50000-/);
});

test('passing refusals are retried, and Retry-After is kept', async () => {
  const started = Date.now();
  const bytes = await download((request, response, nth) => {
    if (nth === 1) return response.writeHead(503).end();
    if (nth === 2) return response.writeHead(429, { 'retry-after': '1' }).end();
    send(request, response);
  });
  assert.equal(sha(bytes), sha(FILE));
  assert.ok(Date.now() - started >= 1000, 'waited the second that the server asked for');
});

test('a server that never recovers is given up, with the reason', async () => {
  await assert.rejects(download((_, response) => response.writeHead(500).end()), refused('network', /HTTP status 500; gave up after 3 retries/));
  assert.equal(requests.length, 4);
  await assert.rejects(download((request) => request.destroy()), refused('network', /the connection failed .* gave up after 3 retries/));
});

test('a final refusal is not retried, and says what to do', async () => {
  await assert.rejects(download((_, response) => response.writeHead(404).end()), refused('network', /status 404; .*check the address/));
  assert.equal(requests.length, 1);
  await assert.rejects(download((_, response) => response.writeHead(401).end()), refused('network', /status 401; .*Authorization/));
  assert.equal(requests.length, 1);
});

test('a file that changes under the download is refused, not mixed', async () => {
  const other = FILE.map((byte) => byte ^ 1);
  const cut = (second) => (request, response, nth) => send(request, response, nth === 1 ? { count: 100_000 } : second);
  await assert.rejects(download(cut({ file: other, etag: '"b"' })), refused('corrupt', /changed .*ETag/));
  await assert.rejects(download(cut({ file: other.subarray(0, 250_000) })), refused('corrupt', /changed .*300001 bytes, now 250000/));
  await assert.rejects(
    download((request, response, nth) => (nth === 1 ? send(request, response, { count: 100_000 }) : response.writeHead(416).end())),
    refused('corrupt', /changed .*shorter/),
  );
});

test('without a length, a cut is an error: nobody knows what is missing', async () => {
  await assert.rejects(
    download((_, response) => {
      response.writeHead(200, { 'transfer-encoding': 'chunked' });
      response.write(FILE.subarray(0, 1000), () => setTimeout(() => response.destroy(), 20));
    }),
    refused('network', /no length to resume by/),
  );
});

test('leaving the stream early closes the connection', async () => {
  let closed;
  const gone = new Promise((resolve) => (closed = resolve));
  behave = (request, response) => {
    response.on('close', closed);
    response.writeHead(200, { 'content-length': 1e9 });
    response.write(FILE);
  };
  const file = await openUrl(url, { ...FAST, chunk: 100_000 });
  assert.equal(file.size, 1e9);
  for await (const _ of file.pieces) break;
  await gone;
});

test('headers go to the origin of the weights and to no other', async () => {
  const headers = { authorization: 'Bearer secret' };
  await download(send, { ...FAST, headers, origin: new URL(url).origin });
  assert.equal(requests[0].headers.authorization, 'Bearer secret');
  await download(send, { ...FAST, headers, origin: 'https://elsewhere.example' });
  assert.equal(requests[0].headers.authorization, undefined);
});

test('messages never show the query of an address, where signatures live', async () => {
  behave = (_, response) => response.writeHead(403).end();
  await assert.rejects(openUrl(`${url}?signature=secret`, FAST), (error) => !/secret/.test(error.message) && /model\.gguf/.test(error.message));
});

test('a Blob comes in pieces of at most 4 MiB', async () => {
  const bytes = new Uint8Array((9 << 20) + 5).map((_, at) => at >> 12);
  const file = openBlob(new Blob([bytes]));
  const lengths = [];
  const hash = createHash('sha256');
  for await (const piece of file.pieces) {
    lengths.push(piece.length);
    hash.update(piece);
  }
  assert.deepEqual(lengths, [4 << 20, 4 << 20, (1 << 20) + 5]);
  assert.equal(hash.digest('hex'), sha(bytes));
});

// --- which files belong to a model

const json = (response, value) => response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
const path = (request) => new URL(request.url, url).pathname;
const { headers: _, ...PACE } = FAST;
const source = (options, how) => {
  behave = how;
  requests = [];
  return resolveSource({ headers: {}, gpu: {}, ...options }, { ...PACE, hub: new URL(url).origin });
};

test('a quantisation is found by listing the repository', async () => {
  const files = ['README.md', 'helium.Q4_K_M.gguf', 'helium.Q4_K_S.gguf', 'helium.Q8_0.gguf'];
  const found = await source({ weights: { repo: 'a/b', quant: 'q4_k_m' } }, (_, response) =>
    json(response, files.map((name, at) => ({ type: 'file', path: name, size: at }))));
  assert.equal(requests[0].url, '/api/models/a/b/tree/main?recursive=true');
  assert.deepEqual(found.parts.map(({ name, size }) => ({ name, size })), [{ name: 'helium.Q4_K_M.gguf', size: 1 }]);
  assert.equal(found.tokenizerJson, undefined);

  behave = send;
  requests = [];
  await readAll(await found.parts[0].open());
  assert.equal(requests[0].url, '/a/b/resolve/main/helium.Q4_K_M.gguf');
});

test('quantisation names are matched as whole words, shards are kept in order, doubts are told', () => {
  assert.deepEqual(chooseQuant(['m-Q4_K.gguf', 'm-Q4_K_M.gguf'], 'a/b', 'Q4_K'), ['m-Q4_K.gguf']);
  assert.deepEqual(chooseQuant(['x-Q8_0-00002-of-00002.gguf', 'x-Q8_0-00001-of-00002.gguf'], 'a/b', 'Q8_0'),
    ['x-Q8_0-00001-of-00002.gguf', 'x-Q8_0-00002-of-00002.gguf']);
  assert.throws(() => chooseQuant(['a-Q8_0.gguf', 'b-Q8_0.gguf'], 'a/b', 'Q8_0'), refused('invalid-argument', /several .*a-Q8_0\.gguf, b-Q8_0\.gguf/));
  assert.throws(() => chooseQuant(['a-Q8_0.gguf'], 'a/b', 'Q4_0'), refused('invalid-argument', /named Q4_0; it has a-Q8_0\.gguf/));
});

test('a revision and a file with odd characters are encoded', async () => {
  const found = await source({ weights: { repo: 'a/b', file: 'sub folder/m#1.gguf', revision: 'refs/pr/1' } }, send);
  assert.equal(requests[0].url, '/api/models/a/b/tree/refs%2Fpr%2F1/sub%20folder');
  requests = [];
  await readAll(await found.parts[0].open());
  assert.equal(requests[0].url, '/a/b/resolve/refs%2Fpr%2F1/sub%20folder/m%231.gguf');
});

test('beside safetensors lie config.json and tokenizer.json; an index names the shards', async () => {
  const folder = (request, response) => {
    if (path(request) === '/folder/config.json') return response.end('{"model_type":"llama"}');
    if (path(request) === '/folder/tokenizer.json') return response.end('{"t":1}');
    if (path(request).endsWith('index.json')) {
      return json(response, { weight_map: { 'b.weight': 'model-2.safetensors', 'a.weight': 'model-1.safetensors', 'c.weight': 'model-2.safetensors' } });
    }
    send(request, response);
  };
  const index = await source({ weights: [new URL('model.safetensors.index.json', url).href] }, folder);
  assert.deepEqual(index.parts.map(({ name, size }) => ({ name, size })),
    [{ name: 'model-1.safetensors', size: FILE.length }, { name: 'model-2.safetensors', size: FILE.length }]);
  assert.equal(index.configJson, '{"model_type":"llama"}');
  assert.equal(new TextDecoder().decode(index.tokenizerJson), '{"t":1}');

  const single = await source({ weights: [new URL('model.safetensors', url).href] }, folder);
  assert.deepEqual(single.parts.map(({ name }) => name), ['model.safetensors']);
  assert.equal(single.configJson, '{"model_type":"llama"}');

  await assert.rejects(
    source({ weights: [new URL('model.safetensors.index.json', url).href] }, (_, response) => json(response, { weight_map: { a: '../../secret' } })),
    refused('corrupt', /weight_map/),
  );
});

test('a refused tokenizer is noted for a GGUF, and an error for safetensors', async () => {
  const closed = (request, response) => (path(request).endsWith('tokenizer.json') ? response.writeHead(403).end() : response.end('{}'));
  const tokenizer = new URL('tokenizer.json', url).href;
  const gguf = await source({ weights: [url], tokenizer }, closed);
  assert.equal(gguf.tokenizerJson, undefined);
  assert.match([...gguf.notes][0], /tokenizer: .*403.*own vocabulary/);
  await assert.rejects(source({ weights: [new URL('model.safetensors', url).href] }, closed), refused('network', /tokenizer\.json: HTTP status 403/));
});
