// Does a model of full size load and run on small memory? Random weights of Helium-1-2b's shapes, natively at
// WebGPU's default limits, and in browsers from a local server, with what it took.
//
//     ./build.sh test            # once: builds all that this uses
//     node bench/full_size/run.mjs [q4_k_m|q8_0]… [native|chromium|firefox]…
//
// The files (1.2 and 2.2 GB) are made where they are missing, in HELIUM_CACHE (default ~/.cache/helium-webgpu).
// Exits with 1 where a limit is exceeded.

import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { visit } from '../../tests/browser/browsers.mjs';
import { serve } from '../../tests/browser/server.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const HELIUM = join(ROOT, 'target/release/helium');
const CACHE = process.env.HELIUM_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'helium-webgpu');
const PROMPT = 'Hello';

const MOST = {
  wasmBytes: 128 << 20,
  /** Besides weights and KV cache. */
  otherGpuBytes: 64 << 20,
  /** Loading, relative to fetching and discarding. */
  loadRatio: 2,
};

const execute = promisify(execFile);
const helium = async (...args) => JSON.parse((await execute(HELIUM, [...args, '--json'], { maxBuffer: 1 << 26 })).stdout);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;
const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

let failures = 0;
function limit(what, found, most, show = megabytes) {
  const ok = found <= most;
  if (!ok) failures += 1;
  console.log(`  ${ok ? 'ok  ' : 'FAIL'} ${what}: ${show(found)}, at most ${show(most)}`);
}

async function model(type) {
  const path = join(CACHE, 'models', `helium-1-2b-random.${type}.gguf`);
  if (!(await stat(path).catch(() => undefined))) {
    console.log(`making ${path}`);
    await helium('synth', '--preset', 'helium-1-2b', '--type', type, '--out', path);
  }
  return path;
}

async function native(path) {
  const run = await helium('generate', path, '--prompt', PROMPT, '--max-tokens', '2', '--limits', 'default');
  console.log(`  load ${seconds(run.timings.load_ms)}, first token after ${seconds(run.timings.ttft_ms)}, ${run.ids.length} tokens`);
  const bench = await helium('bench', path, '--prompt-tokens', '4', '--decode-tokens', '2', '--limits', 'default');
  console.log(`  ${bench.adapter}: prefill ${bench.prefill_tps.toFixed(2)} tok/s, decode ${bench.decode_tps.toFixed(2)} tok/s, ${bench.dispatches_per_token} dispatches a token`);
  limit('GPU memory besides weights and KV cache', bench.gpu_bytes - bench.weight_bytes - bench.kv_bytes, MOST.otherGpuBytes);
}

async function inBrowser(name, path) {
  const script = `(${measure})(${JSON.stringify(`models/${path.split('/').pop()}`)}, ${JSON.stringify(PROMPT)})
    .catch((error) => ({ error: String(error.stack ?? error) }))
    .then((found) => fetch('measured', { method: 'POST', body: JSON.stringify(found) }));`;
  let tell;
  const told = new Promise((resolve) => (tell = resolve));
  const server = await serve({ '/': join(ROOT, 'target/site'), '/models/': join(CACHE, 'models') }, {
    intercept: (request, response) => {
      if (request.url === '/measure') response.writeHead(200, { 'content-type': 'text/html' }).end(`<!doctype html><script type="module">${script}</script>`);
      else if (request.url === '/measured') text(request).then((body) => (response.end(), tell(JSON.parse(body))));
      else return false;
      return true;
    },
  });
  const leave = await visit(name, `${server.url}measure`);
  try {
    const found = await told;
    if (found.error) throw new Error(found.error);
    console.log(`  fetch and discard ${seconds(found.fetchMs)}, load ${seconds(found.loadMs)} (weights on the GPU after ${seconds(found.weightsMs)}), load and keep ${seconds(found.keepMs)}, load what was kept ${seconds(found.keptMs)}`);
    console.log(`  ${found.adapter}: first token after ${seconds(found.stats.ttft_ms)}, decode ${found.stats.decode_tps.toFixed(2)} tok/s, ${found.tokens} tokens`);
    if (found.notes.length > 0) console.log(`  notes: ${found.notes.join('; ')}`);
    limit('WebAssembly memory', found.memory.wasmBytes, MOST.wasmBytes);
    limit('GPU memory besides weights and KV cache', found.memory.gpuBytes - found.memory.weightBytes - found.memory.kvBytes, MOST.otherGpuBytes);
    limit('loading, relative to fetching', found.loadMs / found.fetchMs, MOST.loadRatio, (ratio) => ratio.toFixed(2));
  } finally {
    await leave();
    await server.close();
  }
}

/** Runs in the page. */
async function measure(url, prompt) {
  const { Helium } = await import(new URL('helium/index.js', location.href).href);
  const timed = async (act) => {
    const begin = performance.now();
    const value = await act();
    return [performance.now() - begin, value];
  };
  const discard = async () => {
    const reader = (await fetch(url, { cache: 'no-store' })).body.getReader();
    while (!(await reader.read()).done);
  };
  await (await fetch(url, { cache: 'no-store', headers: { range: 'bytes=0-1' } })).text(); // the connection is there
  const [fetchMs] = await timed(discard);
  // Kernels are compiled behind the weights: what that takes longer does not depend on how many bytes there are.
  let weightsMs = 0;
  const began = performance.now();
  const onProgress = ({ phase }) => {
    if (phase === 'prepare') weightsMs ||= performance.now() - began;
  };
  const [loadMs, first] = await timed(() => Helium.load({ weights: url, cache: false, onProgress }));
  let tokens = 0;
  for await (const _ of first.generate(prompt, { maxTokens: 2, temperature: 0 })) tokens += 1;
  const { adapter, memory } = first.info;
  const { stats } = first;
  await first.close();
  const [keepMs, second] = await timed(() => Helium.load({ weights: url }));
  const { notes } = second.info;
  await second.close();
  const [keptMs, third] = await timed(() => Helium.load({ weights: url }));
  await third.close();
  return { fetchMs, weightsMs, loadMs, keepMs, keptMs, tokens, adapter: adapter.name, memory, stats, notes };
}

const words = process.argv.slice(2);
const chosen = (from, otherwise) => (words.some((word) => from.includes(word)) ? from.filter((word) => words.includes(word)) : otherwise);
const types = chosen(['q4_k_m', 'q8_0'], ['q4_k_m', 'q8_0']);
const places = chosen(['native', 'chromium', 'firefox'], ['native', 'chromium', 'firefox']);
for (const type of types) {
  const path = await model(type);
  console.log(`${type}: ${megabytes((await stat(path)).size)}`);
  for (const place of places) {
    console.log(` ${place}`);
    if (place === 'native') await native(path);
    else await inBrowser(place, path);
  }
}
process.exit(failures === 0 ? 0 : 1);
