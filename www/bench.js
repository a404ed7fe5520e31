// The page of figures: a model and how much to measure in, the figures of `helium bench` out.

import { Helium } from './helium/index.js';
import { MODELS } from './models.js';
import { at, make, say } from './page.js';
import { bytes } from './words.js';

for (const [key, { name }] of Object.entries(MODELS)) at('model').add(new Option(name, key));
const asked = new URLSearchParams(location.search);
if (Object.hasOwn(MODELS, asked.get('model') ?? '')) at('model').value = asked.get('model');
at('weights').value = asked.get('weights') ?? '';
for (const id of ['prompt-tokens', 'decode-tokens', 'runs', 'kernels']) at(id).value = asked.get(id) ?? at(id).value;

let report;

at('bench').addEventListener('submit', async (event) => {
  event.preventDefault();
  at('start').disabled = true;
  at('results').hidden = true;
  let helium;
  try {
    helium = await load();
    const [promptTokens, decodeTokens, runs] = ['prompt-tokens', 'decode-tokens', 'runs'].map((id) => Number(at(id).value));
    say(`Measuring ${runs} of ${promptTokens} + ${decodeTokens} tokens…`);
    const { model, quantization, adapter } = helium.info;
    const figures = await helium.bench({ promptTokens, decodeTokens, runs, trace: at('trace').checked });
    report = { browser: navigator.userAgent, model, quantization, features: adapter.features, promptTokens, decodeTokens, runs, kernels: at('kernels').value, ...figures };
    show(report);
    say('Done.');
  } catch (error) {
    say(`${error.message} (${error.code ?? error.name})`);
  } finally {
    await helium?.close();
    at('loading').hidden = true;
    at('start').disabled = false;
  }
});

at('copy').addEventListener('click', async () => {
  await navigator.clipboard.writeText(JSON.stringify(report, null, 2)).then(() => say('Copied.'), () => say('This browser did not allow copying.'));
});

function load() {
  const weights = at('weights').value.trim();
  at('loading').hidden = false;
  say('Loading the model…');
  return Helium.load({
    ...(weights === '' ? MODELS[at('model').value].load : { weights: new URL(weights, location.href) }),
    gpu: { kernels: at('kernels').value },
    onProgress({ phase, loaded, total }) {
      at('loading').value = total ? loaded / total : 0;
      if (phase === 'weights') say(`Loading the model: ${bytes(loaded)}${total ? ` of ${bytes(total)}` : ''}`);
    },
  });
}

function show(figures) {
  const { spread } = figures;
  const range = (name, digits = 2) => {
    const { median, least, most } = spread[name];
    return `${median.toFixed(digits)} (${least.toFixed(digits)}–${most.toFixed(digits)})`;
  };
  const rows = [
    ['Adapter', figures.adapter],
    ['Offers', figures.features.join(', ') || 'nothing optional'],
    ['Model', `${figures.model}, ${figures.quantization}`],
    ['Prefill', `${range('prefill_tps')} tokens a second`],
    ['Decode', `${range('decode_tps')} tokens a second`],
    ['First token after', `${range('ttft_ms', 0)} ms`],
    ['Dispatches a token', figures.dispatches_per_token],
    ['Encoding a token', `${range('encode_us_per_token', 0)} µs`],
    ['Weights, KV cache, all buffers', [figures.weight_bytes, figures.kv_bytes, figures.gpu_bytes].map(bytes).join(', ')],
    ['Memory ceiling', `${figures.read_gbps.toFixed(2)} GB/s read by a copy, which writes as much`],
    ['Compute ceiling', `${figures.peak_gflops.toFixed(1)} GFLOP/s in f32`],
    ['Decoding reads', `${figures.decode_gbps.toFixed(2)} GB/s, ${(figures.roofline * 100).toFixed(1)}% of the ceiling`],
  ];
  at('figures').replaceChildren(...rows.map(([name, value]) => row('td', [name, value], 'th')));
  at('traces').replaceChildren(...[['A decode step', figures.decode_trace], ['A prompt', figures.prefill_trace]].filter(([, times]) => times).map(trace));
  at('results').hidden = false;
}

/** A table of kernels. */
function trace([what, times]) {
  const table = make('table');
  table.createCaption().textContent = what;
  table.createTHead().append(row('th', ['Kernel', 'Count', 'ms', 'GB/s', 'GFLOP/s']));
  const body = table.createTBody();
  body.append(...times.map(({ kernel, count, ms, gbps, gflops }) => row('td', [kernel, count, ms.toFixed(2), gbps.toFixed(2), gflops.toFixed(2)])));
  return table;
}

function row(kind, cells, first = kind) {
  return make('tr', {}, ...cells.map((textContent, nth) => make(nth === 0 ? first : kind, { textContent })));
}
