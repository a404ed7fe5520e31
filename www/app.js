// The page: one form, one model at a time, one generation at a time. What the engine or the network
// says is shown as text only. Nothing is downloaded before the visitor asks for it.

import { Helium } from './helium/index.js';
import { fromAddress, fromFile, SAMPLES } from './models.js';
import { advice, bytes as bytesInWords, figures, plural, speed } from './words.js';

const at = (id) => document.getElementById(id);
const [composer, prompt, chooser, stopButton, generateButton] = ['composer', 'prompt', 'model', 'stop', 'generate'].map(at);
const [loading, status, output, echo, errorBox] = ['loading', 'status', 'output', 'echo', 'error'].map(at);

const { models, chosen } = fromAddress(location);

/** The loaded model, and which entry of the chooser it is. */
let loaded; // { helium, key }
/** Set while loading or generating; Stop aborts it. */
let running; // AbortController

// --- choosing

function offer(key) {
  const option = document.createElement('option');
  option.value = key;
  option.textContent = models[key].name;
  chooser.append(option);
}

async function showChoice() {
  const { facts, links = [], bytes } = models[chooser.value];
  const line = at('model-facts');
  line.textContent = facts;
  links.forEach(([text, href], nth) => {
    const link = Object.assign(document.createElement('a'), { textContent: text, href, rel: 'noreferrer', target: '_blank' });
    line.append(nth === 0 ? ' ' : ' · ', link);
  });
  if (!running) resetLoading();
  await Promise.all([showAdapter(bytes), showKept(models[chooser.value], line)]);
}

/** Says whether the model's weights are in this browser already. */
async function showKept({ load }, line) {
  const [kept] = await Helium.cached(load.weights).catch(() => []); // a wrong address is told when it is loaded
  if (!kept || load !== models[chooser.value].load || line.querySelector('.kept')) return;
  const text = kept.complete ? ' · Kept in this browser: no download.' : ` · ${bytesInWords(kept.bytes)} of it kept in this browser.`;
  line.append(Object.assign(document.createElement('span'), { className: 'kept', textContent: text }));
}

/** Says before any download whether this device can run the model, and how well. */
async function showAdapter(bytes) {
  const check = await Helium.check({ bytes });
  if (!check.ok) {
    const { text, list } = advice(check, { userAgent: navigator.userAgent, secure: isSecureContext });
    at('advice-text').textContent = text;
    at('advice-list').replaceChildren(...list.map((where) => Object.assign(document.createElement('li'), { textContent: where })));
    at('advice').hidden = false;
    for (const part of [composer, document.querySelector('.progress'), document.querySelector('.sheet')]) part.hidden = true;
    return;
  }
  const notes = [];
  if (check.adapter.software) notes.push('Your browser offers a software renderer in place of a graphics card. It gives the same text, but slowly: some seconds for a word, even with a small model.');
  if (check.fits === 'unlikely') notes.push('This model may be too large for this device’s memory.');
  at('note').textContent = notes.join(' ');
  at('note').hidden = notes.length === 0;
}

// --- loading and generating

async function run() {
  if (running || !composer.reportValidity()) return;
  const asked = readOptions();
  running = new AbortController();
  errorBox.hidden = true;
  at('after').hidden = true;
  generateButton.disabled = true;
  stopButton.disabled = false;
  try {
    if (loaded?.key !== chooser.value) await load(chooser.value);
    await write(prompt.value, asked);
  } catch (error) {
    fail(error);
  } finally {
    running = undefined;
    output.setAttribute('aria-busy', 'false');
    generateButton.disabled = false;
    stopButton.disabled = true;
    at('after').hidden = output.textContent === '';
  }
}

function readOptions() {
  const number = (id) => at(id).valueAsNumber;
  const seed = number('seed');
  return {
    maxTokens: number('max-tokens'),
    temperature: number('temperature'),
    topP: number('top-p'),
    repetitionPenalty: number('repetition'),
    seed: Number.isNaN(seed) ? crypto.getRandomValues(new Uint32Array(1))[0] : seed,
  };
}

async function load(key) {
  const model = models[key];
  const old = loaded;
  loaded = undefined;
  await old?.helium.close(); // two models at once may not fit
  const saying = {
    gpu: 'Asking for the graphics card…',
    tokenizer: 'Fetching the tokenizer…',
    weights: model.load.weights instanceof File ? `Reading ${model.name}…` : `Downloading ${model.name}…`,
    prepare: 'Preparing the graphics card…',
    ready: 'Ready.',
  };
  const onProgress = (progress) => {
    const { phase, loaded: bytes, total, cached } = progress;
    say(phase === 'weights' && bytes > 0 && cached === bytes ? `Reading ${model.name} from this browser…` : saying[phase]);
    if (phase === 'weights' && total === undefined) loading.removeAttribute('value');
    else loading.value = phase === 'ready' ? 1 : total ? bytes / total : 0;
    const text = bytes > 0 && phase === 'weights' ? figures(progress) : '';
    at('figures').textContent = text;
    loading.setAttribute('aria-valuetext', text || saying[phase]);
  };
  const helium = await Helium.load({ ...model.load, onProgress, signal: running.signal });
  loaded = { helium, key };
  showNotes(helium.info.notes);
}

/** What did not go as asked while loading. */
function showNotes(notes) {
  if (notes.length === 0) return;
  at('note').textContent = notes.join(' ');
  at('note').hidden = false;
}

async function write(text, options) {
  const { helium } = loaded;
  echo.textContent = text;
  output.textContent = '';
  const written = output.appendChild(document.createTextNode(''));
  output.setAttribute('aria-busy', 'true');
  say('Reading the prompt…');
  let count = 0;
  let result;
  const tokens = helium.generate(text, { ...options, signal: running.signal });
  try {
    for (;;) {
      const next = await tokens.next();
      if (next.done) {
        result = next.value;
        break;
      }
      if (count === 0) say('Writing…');
      count += 1;
      const follow = innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
      written.appendData(next.value.text);
      if (follow) scrollTo({ top: document.documentElement.scrollHeight });
    }
  } catch (error) {
    if (error.code !== 'aborted') throw error;
  }
  const rate = helium.stats.decode_tps;
  const why = result === undefined ? 'Stopped after' : result.finishReason === 'context' ? 'The context is full:' : 'Done:';
  say(`${why} ${plural(count, 'token')}${result && rate > 0 ? `, ${speed(rate)}` : ''}.`);
  const { adapter, notes } = helium.info;
  at('ran-on').textContent = `Ran on ${adapter.name}`;
  at('ran-on').title = notes.join('\n');
}

function fail(error) {
  if (error.code === 'aborted') {
    resetLoading();
    return say('Loading was stopped.');
  }
  // After these the loaded model is of no more use: the next press of Generate loads it anew.
  if (['device-lost', 'internal', 'worker', 'closed', 'out-of-memory'].includes(error.code)) {
    loaded?.helium.close();
    loaded = undefined;
  }
  if (!loaded) resetLoading();
  say('');
  errorBox.textContent = `${error.message ?? error}`;
  errorBox.hidden = false;
}

function say(text) {
  // Written only where it differs, so that a screen reader is not told the same thing ten times a second.
  if (status.textContent !== text) status.textContent = text;
}

function resetLoading() {
  const ready = loaded?.key === chooser.value;
  loading.value = ready ? 1 : 0;
  loading.setAttribute('aria-valuetext', ready ? 'Ready' : 'Not loaded yet');
  at('figures').textContent = '';
  say(ready ? 'Ready.' : 'Nothing is downloaded until you press Generate.');
}

// --- wiring

for (const key of Object.keys(models)) offer(key);
chooser.value = chosen;
showChoice();

for (const [language, text] of SAMPLES) {
  const button = Object.assign(document.createElement('button'), { type: 'button', textContent: language });
  button.addEventListener('click', () => {
    prompt.value = text;
    prompt.focus();
  });
  at('samples').append(button);
}

composer.addEventListener('submit', (event) => {
  event.preventDefault();
  run();
});
chooser.addEventListener('change', showChoice);
stopButton.addEventListener('click', () => running?.abort());
at('more').addEventListener('click', () => {
  if (running) return;
  prompt.value = echo.textContent + output.textContent;
  run();
});
at('copy').addEventListener('click', async () => {
  await navigator.clipboard.writeText(echo.textContent + output.textContent);
  say('Copied.');
});
at('file').addEventListener('change', ({ target }) => {
  const [file] = target.files;
  if (!file) return;
  const key = `file ${file.name} ${file.size} ${file.lastModified}`;
  if (!(key in models)) {
    models[key] = fromFile(file);
    offer(key);
  }
  target.value = ''; // so that the same file can be chosen again
  chooser.value = key;
  showChoice();
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') running?.abort();
  else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && !generateButton.disabled && !composer.hidden) {
    event.preventDefault();
    run();
  }
});
if (/Mac|iPhone|iPad/.test(navigator.platform)) at('modifier').textContent = '⌘';
