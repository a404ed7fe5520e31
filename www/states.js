// What went wrong or may, in words that help: the engine's message, what to do, and a button that does it.

import { at, make } from './page.js';
import { words } from './strings.js';
import { advice, bytes, duration } from './words.js';

/**
 * Shows an error in `box`, with a button for its `remedy`, `[text, callback]`. What the engine or the network says is
 * shown as text only.
 */
export function showError(box, error, remedy) {
  // A server that answers is there: trying again would not help, and the network is not to blame.
  const isRefusal = error.code === 'network' && /HTTP status 4(?!08|25|29)\d\d/.test(error.message);
  const code = isRefusal ? 'refused' : Object.hasOwn(words.headings, error.code ?? '') ? error.code : 'other';
  const title = make('strong', { textContent: `${words.headings[code]}. ` });
  const message = make('span');
  const said = sentence(error.message ?? String(error));
  // Names of options and files stay as they are written.
  message.textContent = /^[a-z]+ /.test(said) ? said[0].toUpperCase() + said.slice(1) : said;
  box.replaceChildren(title, message);
  if (words.help[code]) box.append(make('span', { className: 'help', textContent: ` ${words.help[code]}` }));
  if (remedy && !isRefusal) {
    const [text, act] = remedy;
    const button = make('button', { type: 'button', className: 'button quiet', textContent: text });
    button.addEventListener('click', act);
    box.append(make('span', { className: 'row' }, button));
  }
  box.hidden = false;
}

const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

/** What `Helium.check` found, as lines of text. */
export function fitLines(check) {
  if (!check.ok && check.code !== 'out-of-memory') return [sentence(check.message)];
  const lines = [];
  if (!check.ok) lines.push(`${words.fits.no} ${sentence(check.message)}`);
  else lines.push(`${words.fits[check.fits ?? 'unknown']}${check.model ? ` ${words.takes(bytes(check.model.gpuBytes))}` : ''}`);
  const { download } = check;
  if (download?.bytes !== undefined) {
    const left = Math.max(0, download.bytes - download.cached);
    if (left === 0) lines.push(words.noDownload);
    else {
      lines.push(`${words.toDownload(bytes(left))}, ${howLong(left)}.`);
      if (download.quotaBytes !== undefined && download.quotaBytes < left) lines.push(words.storageShort(bytes(download.quotaBytes)));
    }
  }
  if (check.smaller?.length > 0) lines.push(`${words.smaller} ${check.smaller.map(({ file, bytes: size }) => `${file} (${bytes(size)})`).join(', ')}.`);
  return lines;
}

/** Mbit/s. Browsers that tell the speed of a connection tell none above the first; the second is an example. */
const MOST_TOLD = 10;
const EXAMPLE = 100;

function howLong(size) {
  const { downlink = MOST_TOLD } = navigator.connection ?? {};
  const time = (speed) => duration((size * 8) / (speed * 1e6));
  return downlink > 0 && downlink < MOST_TOLD ? words.aboutTime(time(downlink)) : words.exampleTime(time(EXAMPLE), EXAMPLE);
}

/** Where WebGPU is missing, what would help takes the place of everything else. */
export function showAdvice(check) {
  const { text, list } = advice(check, { userAgent: navigator.userAgent, secure: isSecureContext });
  at('advice-text').textContent = text;
  at('advice-list').replaceChildren(...list.map((where) => make('li', { textContent: where })));
  at('advice').hidden = false;
  at('composer').hidden = true;
}

/** There is WebGPU after all. */
export function hideAdvice() {
  at('advice').hidden = true;
  at('composer').hidden = false;
}

/** What is good to know, though nothing went wrong. */
export function showNotes(notes) {
  const all = navigator.onLine ? notes : [...notes, words.offline];
  at('note').textContent = all.join(' ');
  at('note').hidden = all.length === 0;
}
