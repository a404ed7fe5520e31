// The page: one text, one model at a time, one run at a time. Nothing is downloaded before the visitor asks for it.
// This file joins the others to the elements of index.html.

import { Editor } from './editor.js';
import { Engine } from './engine.js';
import { Helium } from './helium/index.js';
import { Charts, makeLegend, showToken } from './inspect.js';
import { fromAddress, fromFiles, fromUrl, licences } from './models.js';
import { OPENINGS } from './openings.js';
import * as settings from './settings.js';
import { showShelf } from './shelf.js';
import { fitLines, showError } from './states.js';
import { fill, words } from './strings.js';
import { advice, bytes as bytesInWords, duration, figures, speed } from './words.js';

/** Alternatives asked for at each token. */
const TOP = 10;
/** A download of at least so many bytes is checked first, so that nothing is fetched in vain. */
const LARGE = 500e6;

const at = (id) => document.getElementById(id);
fill(document, words);
document.title = words.title;
const [composer, prompt, chooser, loading, status, errorBox] = ['composer', 'prompt', 'model', 'loading', 'status', 'error'].map(at);
prompt.placeholder = words.placeholder;

const { models, chosen } = fromAddress(location);
const engine = new Engine();
const editor = new Editor({ box: prompt, frame: at('editor'), output: at('output'), before: at('before'), rest: at('rest') });
const charts = new Charts({ speed: at('speed-chart'), entropy: at('entropy-chart'), speedNow: at('speed-now'), entropyNow: at('entropy-now') });

/** Set while loading, writing or scoring; Stop aborts it. */
let running; // AbortController
/** How an abort of what is running is told. */
let abortWords = words.loadingStopped;
let isLoading = false;
/** The model of which a part has arrived. */
let resumable;
/** How the last continuation came about: for Retry and for the link. */
let lastRun; // { prompt, seed, run }

// --- choosing a model

function offer(key) {
  const { group, name } = models[key];
  let parent = chooser.querySelector(`optgroup[data-group="${group}"]`);
  if (!parent) {
    parent = Object.assign(document.createElement('optgroup'), { label: words.groups[group] });
    parent.dataset.group = group;
    chooser.append(parent);
  }
  parent.append(Object.assign(document.createElement('option'), { value: key, textContent: name }));
}

/** Adds a model that the visitor named, and chooses it. */
function add(key, model) {
  if (!(key in models)) {
    models[key] = model;
    offer(key);
  }
  chooser.value = key;
  showChoice();
}

function addFiles(list) {
  const files = [...list];
  if (files.length === 0) return;
  add(`file ${files.map(({ name, size, lastModified }) => `${name} ${size} ${lastModified}`).join(' ')}`, fromFiles(files));
}

async function showChoice() {
  const { facts, links = [], bytes } = models[chooser.value];
  const line = at('model-facts');
  line.textContent = facts;
  links.forEach(([text, href], nth) => {
    const link = Object.assign(document.createElement('a'), { textContent: text, href, rel: 'noreferrer', target: '_blank' });
    if (nth > 0) line.append('\u00a0·');
    line.append(' ', link);
  });
  at('fit-result').hidden = true;
  if (!running) resetLoading();
  await Promise.all([showAdapter(bytes), showKept(models[chooser.value], line)]);
}

/** Says whether the model's weights are in this browser already. */
async function showKept(model, line) {
  const [kept] = await Helium.cached(model.load.weights).catch(() => []); // a wrong address is told when it is loaded
  if (!kept || model !== models[chooser.value] || line.querySelector('.kept')) return;
  const text = kept.complete ? words.noDownload : words.partKept(bytesInWords(kept.bytes));
  line.append(' ', Object.assign(document.createElement('span'), { className: 'kept', textContent: text }));
  if (running || engine.key === chooser.value) return;
  if (kept.complete) say(words.startKept(model.name));
  else {
    resumable = chooser.value;
    showButtons();
  }
}

/** Says before any download whether this device can run the model, and how well. */
async function showAdapter(bytes) {
  const check = await Helium.check({ bytes });
  if (!check.ok) {
    const { text, list } = advice(check, { userAgent: navigator.userAgent, secure: isSecureContext });
    at('advice-text').textContent = text;
    at('advice-list').replaceChildren(...list.map((where) => Object.assign(document.createElement('li'), { textContent: where })));
    at('advice').hidden = false;
    composer.hidden = true;
    return;
  }
  const notes = [];
  if (check.adapter.software) notes.push(words.software);
  if (check.fits === 'unlikely') notes.push(words.maybeTooLarge);
  showNotes(notes);
}

function showNotes(notes) {
  const all = navigator.onLine ? notes : [...notes, words.offline];
  at('note').textContent = all.join(' ');
  at('note').hidden = all.length === 0;
}

async function showFit() {
  const { weights, quantize } = models[chooser.value].load;
  const box = at('fit-result');
  box.hidden = false;
  box.textContent = words.checking;
  at('fit').disabled = true;
  const check = await Helium.check({ weights, ...(quantize && { quantize }) }).catch(({ code, message }) => ({ ok: false, code, message }));
  at('fit').disabled = false;
  box.replaceChildren(...fitLines(check, { bytes: bytesInWords, duration }).map((textContent) => Object.assign(document.createElement('p'), { textContent })));
}

// --- running: loading, then writing or scoring

async function run(task) {
  if (running) return;
  running = new AbortController();
  abortWords = words.loadingStopped;
  errorBox.hidden = true;
  showButtons();
  try {
    if (engine.key !== chooser.value) await load(chooser.value);
    await task?.();
  } catch (error) {
    fail(error);
  } finally {
    running = undefined;
    showButtons();
    editor.point(); // its alternatives can be chosen again
  }
}

function showButtons() {
  const isBusy = running !== undefined;
  const isReady = engine.key === chooser.value;
  for (const id of ['generate', 'score', 'use-address']) at(id).disabled = isBusy;
  chooser.disabled = isBusy;
  at('stop').disabled = !isBusy;
  at('undo').disabled = isBusy || !editor.canUndo;
  at('redo').disabled = isBusy || !editor.canRedo;
  at('retry').disabled = isBusy || !canRetry();
  at('keep').disabled = isBusy || !canKeep();
  at('load').disabled = !isLoading && (isBusy || isReady);
  at('load').textContent = isLoading ? words.pause : resumable === chooser.value && !isReady ? words.resume : words.load;
}

async function load(key) {
  const model = models[key];
  const isFile = isFromDisk(model);
  isLoading = true;
  showButtons();
  try {
    if (!isFile && model.bytes >= LARGE) await refuseWhatCannotFit(model);
    const onProgress = (progress) => {
      const { phase, loaded, total, cached } = progress;
      const saying = phase !== 'weights' ? phase : isFile ? 'file' : loaded > 0 && cached === loaded ? 'kept' : 'weights';
      const sentence = words.phases[saying](model.name);
      say(sentence);
      if (phase === 'weights' && total === undefined) loading.removeAttribute('value');
      else loading.value = phase === 'ready' ? 1 : total ? loaded / total : 0;
      const text = loaded > 0 && phase === 'weights' ? figures(progress) : '';
      at('figures').textContent = text;
      loading.setAttribute('aria-valuetext', text || sentence);
    };
    await engine.load(key, { ...model.load, onProgress, signal: running.signal });
    showNotes(engine.info.notes);
    at('ran-on').textContent = words.ranOn(engine.info.adapter.name);
    keepPage();
  } finally {
    isLoading = false;
    showButtons();
    shelf();
  }
}

/** Nothing large is downloaded that the graphics card cannot hold. A check that fails otherwise leaves the word to the load. */
async function refuseWhatCannotFit({ load: { weights, quantize } }) {
  const { signal } = running;
  const [kept] = await Helium.cached(weights).catch(() => []);
  if (kept?.complete) return;
  say(words.checking);
  const check = await Helium.check({ weights, ...(quantize && { quantize }) }).catch(() => ({ ok: true }));
  signal.throwIfAborted();
  if (check.ok || check.code !== 'out-of-memory') return;
  throw Object.assign(new Error(fitLines(check, { bytes: bytesInWords, duration }).join(' ')), { code: check.code });
}

/** Continues the text before the cursor, or from `from`; see `Editor.begin`. */
function write({ from, seed, ...place } = {}) {
  editor.sync();
  if (running || !settings.areValid()) return;
  const options = settings.read();
  options.seed = seed ?? options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
  if (at('alternatives').checked) options.logprobs = TOP;
  else if (at('tint').checked) options.logprobs = 0;
  // Where the place is given, the text must stay as it is until the model is there.
  prompt.readOnly = from !== undefined;
  run(async () => {
    editor.sync();
    const stream = editor.begin({ at: from ?? editor.caret, ...place });
    try {
      await follow(stream, options);
    } finally {
      stream.end();
    }
  }).finally(() => {
    prompt.readOnly = false;
  });
}

/** Lets the model write into the editor until it ends or is stopped. */
async function follow(stream, options) {
  const text = editor.text.slice(0, stream.start);
  lastRun = { prompt: text, seed: options.seed, run: stream.run };
  charts.clear();
  say(words.reading);
  let count = 0;
  let result;
  // Tokens whose text came only with a later one: theirs is one piece with it.
  let held = 0;
  let heldTop;
  const tokens = engine.generate(text, { ...options, signal: running.signal });
  try {
    for (;;) {
      const next = await tokens.next();
      if (next.done) {
        result = next.value;
        break;
      }
      if (count === 0) say(words.writing);
      count += 1;
      const { text: more, logprob, top } = next.value;
      charts.add(top);
      held += logprob ?? 0;
      heldTop ??= top;
      if (more === '') continue;
      stream.add(more.replace(/\r\n?/g, '\n'), logprob === undefined ? undefined : { logprob: held, top: heldTop ?? [] });
      held = 0;
      heldTop = undefined;
    }
  } catch (error) {
    if (error.code !== 'aborted') throw error;
  }
  const rate = engine.stats.decode_tps;
  const tokensInWords = words.tokens(count);
  if (result === undefined) say(words.stopped(tokensInWords));
  else if (result.finishReason === 'context') say(words.contextFull(tokensInWords));
  else say(words.done(tokensInWords, rate > 0 ? speed(rate) : ''));
  at('ran-on').textContent = `${words.ranOn(engine.info.adapter.name)} · ${words.seedWas(options.seed)}`;
  at('ran-on').title = engine.info.notes.join('\n');
}

function score() {
  editor.sync();
  const { text } = editor;
  if (text.trim() === '') return say(words.nothingToScore);
  run(async () => {
    const { signal } = running;
    abortWords = words.scoreStopped;
    say(words.scoring);
    const stopped = new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(Object.assign(new Error('aborted'), { code: 'aborted' })));
    });
    prompt.readOnly = true;
    try {
      const result = await Promise.race([engine.score(text, at('alternatives').checked ? TOP : 0, () => !signal.aborted), stopped]);
      editor.annotate(result.tokens);
      at('tint').checked = true;
      showTint();
      say(words.scored(words.tokens(result.count), result.perplexity.toFixed(1), result.bits.toFixed(1)));
    } finally {
      prompt.readOnly = false;
    }
  });
}

/** The continuation that can be had anew: it still begins where it began, after the same words. */
function canRetry() {
  return lastRun !== undefined && editor.last?.run === lastRun.run && editor.text.startsWith(lastRun.prompt);
}

function retry() {
  if (!canRetry()) return;
  const fixed = settings.read().seed;
  if (fixed !== undefined) {
    settings.setSeed((fixed + 1) % 2 ** 32);
    keepInAddress();
  }
  const { to } = editor.last;
  write({ from: lastRun.prompt.length, to, run: lastRun.run });
}

/** Whether the cursor stands within the continuation, so that the rest of it can be dropped. */
function canKeep() {
  const { last, caret } = editor;
  return last !== undefined && caret > last.from && caret < last.to;
}

/** Takes the alternative in place of the token that starts at `start`, and goes on from there. */
function branch(piece, start, alternative) {
  const { top } = piece.known;
  const isTheirs = piece.run > 0;
  const { to } = isTheirs ? editor.extent(piece.run) : { to: editor.text.length };
  const first = { text: alternative.text, known: { logprob: alternative.logprob, top } };
  prompt.focus();
  write({ from: start, to, ...(isTheirs && { run: piece.run }), first });
}

// --- saying

function fail(error) {
  if (error.code === 'aborted' || error.name === 'AbortError') {
    if (abortWords === words.paused) resumable = chooser.value; // and the bar stays where it is
    else if (abortWords === words.loadingStopped) resetLoading();
    return say(abortWords);
  }
  engine.failed(error);
  if (engine.key === undefined) resetLoading();
  say('');
  const again = ['network', 'device-lost', 'quota'].includes(error.code) ? [[words.load, () => run()]] : [];
  showError(errorBox, error, again);
}

function say(text) {
  // Written only where it differs, so that a screen reader is not told the same thing ten times a second.
  if (status.textContent !== text) status.textContent = text;
}

function resetLoading() {
  const isReady = engine.key === chooser.value;
  loading.value = isReady ? 1 : 0;
  loading.setAttribute('aria-valuetext', isReady ? words.ready : words.notLoaded);
  at('figures').textContent = '';
  say(isReady ? words.ready : beforeLoading());
  showButtons();
}

/** What pressing Generate would fetch, and under which licence. */
function beforeLoading() {
  const model = models[chooser.value];
  if (model.bytes === undefined || isFromDisk(model)) return words.start;
  return words.startWith(model.name, bytesInWords(model.bytes), licences(model).join(words.and));
}

function isFromDisk({ load: { weights } }) {
  return weights instanceof Blob || weights[0] instanceof Blob;
}

function showTint() {
  at('mirror').classList.toggle('tinted', at('tint').checked);
  at('legend').hidden = !at('tint').checked;
}

const shelf = () => showShelf({ list: at('kept-list'), none: at('kept-none') }, (name, error) => {
  if (error) showError(errorBox, error);
  else say(words.keptDeleted(name));
  if (!running) showChoice();
});

/** The settings stand in the address, after the #. */
function keepInAddress() {
  const hash = settings.toHash();
  history.replaceState(null, '', `${location.pathname}${location.search}${hash && `#${hash}`}`);
}

/** The address that leads here, with the chosen model. */
function linkHere() {
  const url = new URL(location.href);
  if (chooser.value !== 'address' && !/^(file|url) /.test(chooser.value)) {
    url.search = chooser.value === 'helium' ? '' : `?model=${chooser.value}`;
  } else if (chooser.value.startsWith('url ')) {
    const { weights, tokenizer } = models[chooser.value].load;
    url.search = `?${new URLSearchParams({ weights, ...(tokenizer && { tokenizer }) })}`;
  }
  url.hash = settings.toHash(canRetry() ? { text: lastRun.prompt, seed: lastRun.seed } : { text: editor.text || undefined });
  return url.href;
}

async function copy(text, saying) {
  say(await navigator.clipboard.writeText(text).then(() => saying, () => words.copyFailed));
}

/** Keeps the page's own files in this browser, so that it opens without a network. */
async function keepPage() {
  const worker = await navigator.serviceWorker?.ready.catch(() => undefined);
  worker?.active?.postMessage('keep all');
}

// --- wiring

for (const key of Object.keys(models)) offer(key);
chooser.value = chosen;
settings.makeFields(at('fields'), keepInAddress);
const linked = settings.fromHash(location.hash);
if (linked) editor.set([{ text: linked, run: 0 }], linked.length);
makeLegend(at('legend'));
showTint();
showToken(at('token'));
showButtons();
showChoice();
shelf();

for (const [tag, language, text] of OPENINGS) {
  const button = Object.assign(document.createElement('button'), { type: 'button', textContent: language, lang: tag });
  button.addEventListener('click', () => {
    if (running) return;
    editor.set([{ text, run: 0 }], text.length);
    prompt.lang = tag;
    at('mirror').lang = tag;
    prompt.focus();
  });
  at('samples').append(button);
}

editor.addEventListener('change', () => {
  showButtons();
  if (editor.text === '') for (const element of [prompt, at('mirror')]) element.removeAttribute('lang');
});
editor.addEventListener('token', ({ detail: { piece, isPinned, start } }) => {
  // What is being pressed must not be replaced: the panel keeps what it shows while it has the focus.
  if (at('token').contains(document.activeElement) && !piece) return;
  showToken(at('token'), piece, isPinned && !running ? (alternative) => branch(piece, start, alternative) : undefined);
  at('keep').disabled = running !== undefined || !canKeep();
});

composer.addEventListener('submit', (event) => {
  event.preventDefault();
  write();
});
chooser.addEventListener('change', showChoice);
const clicks = {
  stop: () => running?.abort(),
  load: () => {
    if (!isLoading) return run(async () => say(words.ready));
    abortWords = words.paused;
    running.abort();
  },
  fit: showFit,
  undo: () => editor.undo(),
  redo: () => editor.redo(),
  retry,
  keep: () => {
    const { caret, last } = editor;
    editor.replace(caret, last.to, [], caret);
    prompt.focus();
  },
  score,
  copy: () => copy(editor.text, words.copied),
  'copy-link': () => copy(linkHere(), words.linkCopied),
  'copy-code': () => {
    const options = settings.read();
    const isLast = canRetry();
    const text = isLast ? lastRun.prompt : editor.text;
    copy(settings.toCode(models[chooser.value].load, text, isLast ? { ...options, seed: lastRun.seed } : options), words.codeCopied);
  },
  reset: () => {
    settings.reset();
    keepInAddress();
  },
  'use-address': () => {
    const [weights, tokenizer] = [at('address').value.trim(), at('tokenizer-address').value.trim()];
    if (weights !== '') add(`url ${weights} ${tokenizer}`, fromUrl(weights, tokenizer, location.href, words.addressWhy));
  },
};
for (const id of ['address', 'tokenizer-address']) {
  at(id).addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.ctrlKey || event.metaKey) return;
    event.preventDefault(); // not Generate
    clicks['use-address']();
  });
}
for (const [id, act] of Object.entries(clicks)) at(id).addEventListener('click', act);
at('tint').addEventListener('change', showTint);
at('file').addEventListener('change', ({ target }) => {
  addFiles(target.files);
  target.value = ''; // so that the same file can be chosen again
});

// Files may be dropped anywhere on the page. Text may be dropped into the editor, as into any.
const hasFiles = ({ dataTransfer }) => dataTransfer?.types.includes('Files') && !composer.hidden;
document.addEventListener('dragover', (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  at('drop').hidden = false;
});
document.addEventListener('dragleave', ({ relatedTarget }) => {
  if (relatedTarget === null) at('drop').hidden = true;
});
document.addEventListener('drop', (event) => {
  at('drop').hidden = true;
  if (!hasFiles(event)) return;
  event.preventDefault();
  if (!running) addFiles(event.dataTransfer.files);
});

document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') running?.abort();
  else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && !event.isComposing && !composer.hidden) {
    event.preventDefault();
    write();
  }
});
for (const type of ['online', 'offline']) addEventListener(type, () => !running && showChoice());
if (/Mac|iPhone|iPad/.test(navigator.platform)) at('modifier').textContent = '⌘';

navigator.serviceWorker?.register('sw.js').catch(() => undefined); // the page works without it
