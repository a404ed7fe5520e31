// The packed tarball as a web developer gets it: installed into an empty project, imported by its name,
// type-checked from outside, and used from a static page.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createReadStream, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { LOSES_DEVICE, openPage } from './browsers.mjs';
import { check } from './harness.mjs';
import { testLifetime } from './package-lifetime.mjs';
import { serve } from './server.mjs';

const execute = promisify(execFile);
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CONSUMER = fileURLToPath(new URL('package', import.meta.url));
/** A small model with a vocabulary, for what is not about the weights: random, so what it writes means nothing. */
export const SMALL = join(ROOT, 'tests/data/goldens/gguf_F16');
/** For a page whose server allows no more than the engine needs. */
export const POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; img-src data:";

/** Bytes that the package asks for at a time. */
const CHUNK = 4 << 20;
const SLOW = 300; // seconds, for what loads or computes: software adapters take their time

export async function testPackage(browser, model) {
  const { name } = browser;
  const project = await mkdtemp(join(tmpdir(), 'helium-package-'));
  let page;
  const servers = [];
  try {
    const installed = await check(`${name}: the tarball installs into an empty project, and its types hold`, 120, async () => {
      await writeFile(join(project, 'package.json'), '{ "private": true, "type": "module" }');
      await execute('npm', ['install', '--no-audit', '--no-fund', '--offline', await tarball()], { cwd: project });
      const at = join(project, 'node_modules/helium-webgpu');
      const manifest = JSON.parse(await readFile(join(at, 'package.json'), 'utf8'));
      assert.deepEqual(manifest.dependencies ?? {}, {});
      for (const file of [manifest.exports['.'].default, manifest.exports['.'].types, 'dist/worker.js', 'dist/wasm/helium_bg.wasm', 'README.md', 'LICENSE-MIT']) {
        assert.ok(await stat(join(at, file)).catch(() => undefined), `${file} is missing`);
      }

      await cp(CONSUMER, project, { recursive: true });
      await execute(process.execPath, [join(ROOT, 'npm/node_modules/typescript/bin/tsc'), '-p', project], { cwd: project })
        .catch((error) => assert.fail(`a strict project does not compile against the package:\n${error.stdout}`));
      // What a bundler or an import map does with the package's name.
      const target = `./node_modules/helium-webgpu/${manifest.exports['.'].default}`;
      const html = await readFile(join(project, 'index.html'), 'utf8');
      await writeFile(join(project, 'index.html'), html.replace('PACKAGE', target));
    });
    if (!installed) return;

    const flaky = { path: `/flaky/${basename(model)}`, cuts: 2, ranges: [] };
    const server = await serve({ '/': project, '/strict/': project, '/models/': dirname(model), '/small/': SMALL }, {
      intercept(request, response) {
        if (request.url.startsWith('/strict/')) response.setHeader('content-security-policy', POLICY);
        if (request.url.endsWith('helium-webgpu/dist/worker.js')) {
          response.writeHead(200, { 'content-type': 'text/javascript' }).end(LOSES_DEVICE + readFileSync(join(project, 'node_modules/helium-webgpu/dist/worker.js')));
          return true;
        }
        return cut(flaky, model, request, response);
      },
    });
    const other = await serve({ '/': project });
    servers.push(server, other);
    page = await openPage(browser, server.url);
    page.setDefaultTimeout(600_000);
    const weights = `models/${basename(model)}`;
    // consumer.ts, compiled, runs in the page; its functions return plain data.
    const call = (step, ...args) => page.evaluate((...given) => globalThis.step(...given), step, ...args);

    await check(`${name}: check, before anything is downloaded`, 30, async () => {
      const found = await call('check');
      assert.equal(found.ok, true);
      assert.equal(found.adapter.software, true);
      assert.ok(found.adapter.limits.maxStorageBufferBindingSize >= 128 << 20);
    });

    await check(`${name}: check, with weights, reads their header`, 60, async () => {
      const { size } = await stat(model);
      const found = await call('whatItTakes', weights);
      assert.deepEqual({ ...found, fits: undefined }, { ok: true, architecture: 'llama', bytes: size, fits: undefined, smaller: 0 });
    });

    for (const [step, args, code, pattern] of [
      ['load', [{ weights: 'models/none.gguf' }], 'network', /none\.gguf: HTTP status 404/],
      ['load', [{ weights: 'index.html' }], 'corrupt', /index\.html/],
      ['load', [{ weights, context: 5 }], 'invalid-argument', /unknown option "context"/],
    ]) {
      await check(`${name}: load refuses ${JSON.stringify(args[0]).slice(0, 60)}`, SLOW, async () => {
        const { error } = await call(step, ...args);
        assert.equal(error?.code, code, JSON.stringify(error));
        assert.equal(error.name, 'HeliumError');
        assert.match(error.message, pattern);
      });
    }

    await check(`${name}: an aborted load settles`, 60, async () => {
      const { error } = await call('abortedLoad', { weights });
      assert.equal(error.code, 'aborted');
    });

    const loaded = await check(`${name}: load over a connection that breaks twice`, SLOW, async () => {
      const { error, value } = await call('load', { weights: flaky.path });
      assert.equal(error, undefined, error?.message);
      assert.deepEqual(value.phases, ['gpu', 'tokenizer', 'weights', 'prepare', 'ready']);
      const { size } = await stat(model);
      assert.equal(value.loaded, size);
      assert.equal(value.total, size);
      assert.equal(value.info.adapter.software, true);
      assert.deepEqual(value.info.notes, []);
      const { wasmBytes, gpuBytes, weightBytes, kvBytes } = value.info.memory;
      assert.ok(wasmBytes < 128 << 20, `WebAssembly took ${wasmBytes} bytes`);
      assert.ok(gpuBytes - weightBytes - kvBytes < 64 << 20, `besides weights and cache, the GPU took ${gpuBytes - weightBytes - kvBytes} bytes`);
      const starts = flaky.ranges.map((range) => Number(/^bytes=(\d+)-/.exec(range)[1]));
      assert.ok(starts.filter((start) => start % CHUNK !== 0).length === 2, `ranges asked for: ${flaky.ranges}`);
      const [kept] = value.cached;
      assert.deepEqual({ name: kept.name, complete: kept.complete, bytes: kept.bytes }, { name: basename(model), complete: true, bytes: size });
    });
    if (!loaded) return;

    await check(`${name}: generate streams tokens and returns the whole`, SLOW, async () => {
      const { tokens, completion, stats } = await call('generate', 'Once upon a time', { maxTokens: 4, temperature: 0, logprobs: 2 });
      assert.equal(tokens.length, 4);
      assert.equal(tokens.map(({ text }) => text).join(''), completion.text);
      assert.deepEqual(tokens.map(({ id }) => id), Array.from(completion.ids));
      assert.ok(tokens.every(({ logprob }) => logprob <= 0));
      assert.equal(completion.finishReason, 'length');
      assert.ok(stats.decode_tps > 0 && stats.ttft_ms > 0, JSON.stringify(stats));
    });

    await check(`${name}: leaving the loop and an AbortSignal both stop the GPU; the next run works`, SLOW, async () => {
      const { left, aborted, afterAbort, next } = await call('stopping');
      assert.equal(left, 2);
      assert.equal(aborted.code, 'aborted');
      assert.equal(afterAbort, 0, 'tokens that came after the abort');
      assert.equal(next, 2);
    });

    await check(`${name}: two generations at once queue in their order`, SLOW, async () => {
      assert.equal(await call('queued'), 'aabb');
    });

    await check(`${name}: tokenize and detokenize are inverse, score gives a log-probability each`, SLOW, async () => {
      const { ids, text, score } = await call('texts', 'Žluťoučký kůň');
      assert.equal(text, 'Žluťoučký kůň');
      assert.ok(ids.length > 3);
      assert.ok(score.ids.length > 1 && score.logprobs[0] === null);
    });

    await check(`${name}: completions, whole and streamed`, SLOW, async () => {
      const { whole, chunks, error } = await call('completions');
      assert.equal(whole.object, 'text_completion');
      assert.equal(whole.choices[0].finish_reason, 'length');
      assert.equal(whole.usage.completion_tokens, 3);
      assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(''), whole.choices[0].text);
      assert.equal(chunks.at(-1).choices[0].finish_reason, 'length');
      assert.equal(error.code, 'invalid-argument');
    });

    await check(`${name}: close ends a running generation, and later calls`, 60, async () => {
      const { running, later, again } = await call('closing');
      assert.equal(running.code, 'closed');
      assert.equal(later.code, 'closed');
      assert.equal(again, true);
    });

    await check(`${name}: what is kept can be deleted`, 30, async () => {
      const { before, after } = await call('forget');
      assert.deepEqual([before > 0, after], [true, 0]);
    });

    await check(`${name}: the package can be imported from another origin, as from a CDN`, SLOW, async () => {
      const { error, value } = await call('elsewhere', `${other.url}node_modules/helium-webgpu/dist/index.js`, new URL(weights, server.url).href);
      assert.equal(error, undefined, error?.message);
      assert.equal(value, 2);
    });

    await testLifetime(browser, page, call);

    await check(`${name}: no error reached the console`, 5, async () => assert.deepEqual(page.problems, []));
  } finally {
    await page?.close();
    for (const server of servers) await server.close();
    await rm(project, { recursive: true, force: true });
  }
}

/** Puts the tarball's files into a folder, as npm does. */
export async function unpack(folder) {
  await mkdir(folder, { recursive: true });
  await execute('tar', ['-xzf', await tarball(), '-C', folder, '--strip-components', '1']);
}

async function tarball() {
  const { version } = JSON.parse(await readFile(join(ROOT, 'npm/package.json'), 'utf8'));
  return join(ROOT, `target/helium-webgpu-${version}.tgz`);
}

/** A connection that breaks within a chunk, as often as `cuts` says. */
function cut(flaky, model, request, response) {
  if (request.url !== flaky.path) return false;
  flaky.ranges.push(request.headers.range);
  const [, start, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range);
  serveRange(Number(start), Number(last)).catch(() => response.destroy());
  return true;

  async function serveRange(start, last) {
    const { size } = await stat(model);
    const end = Math.min(last, size - 1);
    response.writeHead(206, { 'content-length': end + 1 - start, etag: '"one"', 'content-range': `bytes ${start}-${end}/${size}` });
    let left = start > 0 && flaky.cuts-- > 0 ? 3_000_000 : Infinity;
    const stream = createReadStream(model, { start, end });
    response.on('close', () => stream.destroy());
    for await (const piece of stream) {
      left -= piece.length;
      if (left < 0) {
        setTimeout(() => response.destroy(), 50);
        return;
      }
      if (!response.write(piece)) await new Promise((resolve) => response.once('drain', resolve));
    }
    response.end();
  }
}
