// Ours and other engines side by side: the same model, machine and adapter, in one run, one after the other and that
// several times over, so that a machine that gets slower does so for all.
//
//     ./build.sh test                                   # once: builds all that this uses
//     cd bench/peers && npm install --ignore-scripts    # once: the other engines, 1.3 GB
//     node run.mjs [native|chromium]… [--model FILE.gguf] [--rounds 3] [--prompt-tokens 128] [--decode-tokens 16] [--onnx FOLDER]
//
// `--onnx` is the model as transformers.js takes it, which make_onnx.py writes; without it, that engine is left out. What
// `helium synth` writes serves as a model natively: how fast an engine is does not depend on what the weights are.

import { execFile } from 'node:child_process';
import { availableParallelism, homedir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CACHE = process.env.HELIUM_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'helium-webgpu');

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string', default: process.env.HELIUM_SMOLLM2 ?? join(CACHE, 'models/SmolLM2-135M-Instruct.Q4_1.gguf') },
    rounds: { type: 'string', default: '3' },
    'prompt-tokens': { type: 'string', default: '128' },
    'decode-tokens': { type: 'string', default: '16' },
    onnx: { type: 'string' },
  },
});
const MODEL = resolve(values.model);
const NAME = basename(MODEL);
const rounds = Number(values.rounds);
const counts = { prompt: Number(values['prompt-tokens']), decode: Number(values['decode-tokens']) };
const places = positionals.length > 0 ? positionals : ['native', 'chromium'];

// --- natively: one process an engine and run

/** One run of llama.cpp, in a process of its own: `node run.mjs` calls itself. */
async function llamaCpp(gpu, flashAttention) {
  const { getLlama, LlamaLogLevel } = await import('node-llama-cpp');
  // Its own choice is four threads at least, which wait for each other on a machine of fewer cores.
  const maxThreads = availableParallelism();
  const llama = await getLlama({ gpu: gpu ? 'vulkan' : false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads });
  const model = await llama.loadModel({ modelPath: MODEL, gpuLayers: gpu ? 'max' : 0 });
  const contextSize = Math.max(512, counts.prompt + counts.decode + 8);
  const context = await model.createContext({ contextSize, batchSize: 512, threads: maxThreads, flashAttention });
  const sequence = context.getSequence();
  const ids = (n) => Array.from({ length: n }, (_, at) => (at * 7919 + 1000) % 40_000);
  // Whatever is made at the first use, for prompts of that length.
  await sequence.evaluateWithoutGeneratingNewTokens(ids(counts.prompt));
  await sequence.clearHistory();
  let begin = performance.now();
  await sequence.evaluateWithoutGeneratingNewTokens(ids(counts.prompt));
  const prefill = counts.prompt / (performance.now() - begin);
  begin = performance.now();
  let count = 0;
  // The end of a text is a token like others here.
  for await (const _ of sequence.evaluate([5], { temperature: 0, yieldEogToken: true })) if (++count === counts.decode) break;
  if (count !== counts.decode) throw new Error(`llama.cpp ended after ${count} of ${counts.decode} tokens`);
  const decode = counts.decode / (performance.now() - begin);
  return { prefill: prefill * 1000, decode: decode * 1000 };
}

async function child(command, args, env = {}) {
  const { stdout } = await promisify(execFile)(command, args, { cwd: HERE, env: { ...process.env, ...env }, maxBuffer: 1 << 26 });
  return JSON.parse(stdout.trim().split('\n').at(-1));
}
const sizes = ['--prompt-tokens', String(counts.prompt), '--decode-tokens', String(counts.decode)];
const again = (what, env) => child(process.execPath, [fileURLToPath(import.meta.url), what, ...sizes, '--model', MODEL], env);
const VULKAN = { GGML_VK_VISIBLE_DEVICES: '0' };

const NATIVE = {
  'helium-webgpu': async () => {
    const found = await child(join(ROOT, 'target/release/helium'), ['bench', MODEL, ...sizes, '--runs', '1', '--json']);
    return { prefill: found.prefill_tps, decode: found.decode_tps, adapter: found.adapter };
  },
  'llama.cpp, Vulkan': () => again('llama.cpp-vulkan', VULKAN),
  'the same, flash attention': () => again('llama.cpp-vulkan-flash', VULKAN),
  'llama.cpp, CPU': () => again('llama.cpp-cpu'),
};

// --- in Chromium: one page an engine and run

/** About as many tokens as asked for, as text: what all engines take. */
const TEXT = 'The harbour lay quiet in the early light, and the first boats were coming home with their lamps still burning. ';

async function inPage(engine) {
  const { launch, openPage } = await import('../../tests/browser/browsers.mjs');
  const { serve } = await import('../../tests/browser/server.mjs');
  const server = await serve({ '/': HERE, '/helium/': join(ROOT, 'target/site/helium'), '/models/': join(MODEL, '..'), ...(values.onnx && { '/onnx/': join(values.onnx, '..') }) });
  const browser = await launch('chromium');
  try {
    const page = await openPage(browser, `${server.url}page.html`);
    const text = TEXT.repeat(Math.ceil(counts.prompt / 22));
    return await page.evaluate((...given) => globalThis.run(...given), engine, { text, counts, model: `/models/${NAME}`, onnx: values.onnx && basename(values.onnx) });
  } finally {
    await browser.close();
    await server.close();
  }
}

const CHROMIUM = {
  'helium-webgpu': () => inPage('helium'),
  ...(values.onnx && { 'transformers.js, WebGPU': () => inPage('transformers') }),
  'wllama, CPU': () => inPage('wllama'),
};

// --- side by side

/** Of an even number, the mean of the middle two. */
function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const half = (sorted.length - 1) / 2;
  return (sorted[Math.floor(half)] + sorted[Math.ceil(half)]) / 2;
}

async function compare(title, engines) {
  console.log(`\n${title}: ${NAME}, ${counts.prompt} + ${counts.decode} tokens, ${rounds} rounds; tokens a second, median (least–most), and ours divided by theirs`);
  const results = Object.fromEntries(Object.keys(engines).map((name) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, run] of Object.entries(engines)) {
      try {
        results[name].push(await run());
      } catch (error) {
        console.log(`  ${name}: failed: ${String(error.message).split('\n').slice(0, 3).join(' ')}`);
        delete engines[name];
      }
    }
  }
  const ours = results['helium-webgpu'];
  for (const [name, runs] of Object.entries(results)) {
    if (runs.length === 0) continue;
    const column = (what) => {
      const numbers = runs.map((run) => run[what]);
      const ratio = median(ours.map((run) => run[what])) / median(numbers);
      return `${what} ${median(numbers).toFixed(2)} (${Math.min(...numbers).toFixed(2)}–${Math.max(...numbers).toFixed(2)}), ${ratio.toFixed(2)}x`;
    };
    console.log(`  ${name.padEnd(24)} ${column('prefill')};  ${column('decode')}${runs[0].adapter ? `;  on ${runs[0].adapter}` : ''}`);
  }
}

if (places[0]?.startsWith('llama.cpp')) {
  console.log(JSON.stringify(await llamaCpp(places[0] !== 'llama.cpp-cpu', places[0].endsWith('flash'))));
  process.exit(0);
}
if (places.includes('native')) await compare('Native', NATIVE);
if (places.includes('chromium')) await compare('Chromium', CHROMIUM);
process.exit(0);
