// The page: one text, one model at a time, one run at a time. Nothing is downloaded before the visitor asks for it.
// This file joins the others to each other and to the elements of index.html.

import { Chooser } from './chooser.js';
import { takeFiles } from './dropping.js';
import { Editor } from './editor.js';
import { Engine } from './engine.js';
import { makeLegend, showToken } from './inspect.js';
import { Loading } from './loading.js';
import { fromAddress, fromUrl } from './models.js';
import { OPENINGS } from './openings.js';
import { at, make, say } from './page.js';
import { Run } from './run.js';
import * as settings from './settings.js';
import { keepInAddress, makeCopying } from './sharing.js';
import { showShelf } from './shelf.js';
import { showError } from './states.js';
import { fill, words } from './strings.js';
import { Writing } from './writing.js';

fill(document, words);
document.title = words.title;
const [prompt, mirror, errorBox] = ['prompt', 'mirror', 'error'].map(at);
prompt.placeholder = words.placeholder;

const engine = new Engine();
const editor = new Editor({ box: prompt, frame: at('editor'), output: at('output'), before: at('before'), rest: at('rest') });
const run = new Run();
const chooser = new Chooser(fromAddress(location));
const loading = new Loading({ engine, chooser, run });
const writing = new Writing({ engine, editor, run, start });

/** Does a work with the chosen model, which is loaded first where it is not the one at hand. */
function start(work) {
  return run.start(async () => {
    errorBox.hidden = true;
    if (!loading.isReady) await load();
    await work();
  }, fail);
}

async function load() {
  try {
    await loading.load();
    keepPage();
  } finally {
    shelf();
  }
}

function fail(error) {
  engine.failed(error);
  if (engine.key === undefined) loading.reset();
  say('');
  const remedy = error.remedy ?? (['network', 'device-lost', 'quota'].includes(error.code) ? [words.again, loadAlone] : undefined);
  showError(errorBox, error, remedy);
}

const loadAlone = () => start(() => say(words.ready));

function showButtons() {
  const isBusy = run.isOn;
  const { activeElement } = document;
  for (const id of ['generate', 'score', 'use-address', 'file']) at(id).disabled = isBusy;
  chooser.disabled = isBusy;
  at('stop').disabled = !isBusy;
  at('undo').disabled = isBusy || !editor.canUndo;
  at('redo').disabled = isBusy || !editor.canRedo;
  at('retry').disabled = isBusy || !writing.canRetry;
  at('keep').disabled = isBusy || !writing.canKeep;
  loading.showButton();
  // Else the focus would be lost with a button that cannot be pressed any more.
  if (activeElement?.disabled) at(isBusy ? 'stop' : 'generate').focus({ preventScroll: true });
}

function showTint() {
  mirror.classList.toggle('tinted', at('tint').checked);
  at('legend').hidden = !at('tint').checked;
}

const shelf = () => showShelf({ list: at('kept-list'), none: at('kept-none') }, async (name, error) => {
  if (!run.isOn) await chooser.show();
  if (error) showError(errorBox, error);
  else say(words.keptDeleted(name));
});

/** Keeps the page's own files in this browser, so that it opens without a network. */
async function keepPage() {
  const worker = await navigator.serviceWorker?.ready.catch(() => undefined);
  worker?.active?.postMessage('keep all');
}

// --- as the page opens

settings.makeFields(at('fields'), keepInAddress);
function takeLink() {
  const text = settings.fromHash(location.hash);
  if (text) editor.set([{ text, run: 0 }], text.length);
}
takeLink();
addEventListener('hashchange', () => !run.isOn && takeLink());
makeLegend(at('legend'));
showTint();
showToken(at('token'));
showButtons();
chooser.show();
shelf();
for (const [lang, language, text] of OPENINGS) {
  const button = make('button', { type: 'button', textContent: language, lang });
  button.addEventListener('click', () => {
    if (run.isOn) return;
    editor.set([{ text, run: 0 }], text.length);
    for (const element of [prompt, mirror]) element.lang = lang;
    prompt.focus();
  });
  at('samples').append(button);
}
// Where they are one line to scroll, it begins with the visitor's own language.
const [own] = at('samples').querySelectorAll(`[lang="${CSS.escape(navigator.language.split('-')[0])}"]`);
if (own) at('samples').scrollLeft = own.offsetLeft - at('samples').firstElementChild.offsetLeft;
if (/Mac|iPhone|iPad/.test(navigator.platform)) at('modifier').textContent = '⌘';

// Beside longer panels the text stays in view; of a text taller than the window that is its end, and the buttons.
function stick() {
  const margin = 16;
  at('writing').style.setProperty('--stuck', `${Math.min(margin, innerHeight - at('writing').offsetHeight - margin)}px`);
}
new ResizeObserver(stick).observe(at('writing'));
addEventListener('resize', stick);

// --- what the visitor does

run.addEventListener('change', () => {
  showButtons();
  if (!run.isOn) editor.point(); // its alternatives can be chosen again
});
editor.addEventListener('change', () => {
  showButtons();
  if (editor.text === '') for (const element of [prompt, mirror]) element.removeAttribute('lang');
});
editor.addEventListener('token', ({ detail: { piece, isPinned, start: from } }) => {
  // What is being pressed must not be replaced: the panel keeps what it shows while it has the focus.
  if (at('token').contains(document.activeElement) && !piece) return;
  showToken(at('token'), piece, isPinned && !run.isOn ? (alternative) => writing.branch(piece, from, alternative) : undefined);
  at('keep').disabled = run.isOn || !writing.canKeep;
});

function retry() {
  const { seed } = settings.read();
  if (writing.canRetry && seed !== undefined) {
    settings.setSeed((seed + 1) % 2 ** 32);
    keepInAddress();
  }
  writing.retry();
}

function useAddress() {
  const [weights, tokenizer] = [at('address').value.trim(), at('tokenizer-address').value.trim()];
  if (weights !== '') chooser.add(`url ${weights} ${tokenizer}`, fromUrl(weights, tokenizer, location.href, words.addressWhy));
}

for (const [id, act] of Object.entries({
  stop: () => run.stop(),
  load: () => (loading.isOn ? loading.pause() : loadAlone()),
  undo: () => editor.undo(),
  redo: () => editor.redo(),
  retry,
  keep: () => writing.keep(),
  score: () => writing.score(() => {
    at('tint').checked = true;
    showTint();
  }),
  reset: () => {
    settings.reset();
    keepInAddress();
  },
  'use-address': useAddress,
})) at(id).addEventListener('click', act);
makeCopying({ chooser, editor, writing });
takeFiles({ isWelcome: () => !run.isOn, onFiles: (files) => chooser.addFiles(files) });
at('tint').addEventListener('change', showTint);
at('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  writing.write();
});
for (const id of ['address', 'tokenizer-address']) {
  at(id).addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.ctrlKey || event.metaKey) return;
    event.preventDefault(); // not Generate
    useAddress();
  });
}
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') run.stop();
  else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && !event.isComposing && !at('composer').hidden) {
    event.preventDefault();
    writing.write();
  }
});
for (const type of ['online', 'offline']) addEventListener(type, () => !run.isOn && chooser.show());

navigator.serviceWorker?.register('sw.js').catch(() => undefined); // the page works without it

// Kept by the browser for the way back, this page would hold its model beside that of the next one.
addEventListener('pagehide', () => {
  run.stop();
  engine.drop().catch(() => undefined);
});
addEventListener('pageshow', ({ persisted }) => {
  if (persisted) loading.reset();
});
