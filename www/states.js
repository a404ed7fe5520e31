// What went wrong or may, in words that help: the engine's message, what to do, and a button that does it.

import { at, make } from './page.js';
import { words } from './strings.js';
import { advice, bytes, duration } from './words.js';

/**
 * Shows an error in `box`. `actions` are `[text, callback]`. What the engine or the network says is shown as text only.
 */
export function showError(box, error, actions = []) {
  const code = Object.hasOwn(words.headings, error.code ?? '') ? error.code : 'other';
  const title = make('strong', { textContent: `${words.headings[code]}. ` });
  const message = make('span');
  const said = sentence(error.message ?? String(error));
  // Names of options and files stay as they are written.
  message.textContent = /^[a-z]+ /.test(said) ? said[0].toUpperCase() + said.slice(1) : said;
  box.replaceChildren(title, message);
  if (words.help[error.code]) {
    box.append(make('span', { className: 'help', textContent: ` ${words.help[error.code]}` }));
  }
  if (actions.length > 0) {
    const row = make('span', { className: 'row' });
    for (const [text, act] of actions) {
      const button = make('button', { type: 'button', className: 'button quiet', textContent: text });
      button.addEventListener('click', act);
      row.append(button);
    }
    box.append(row);
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
      const { downlink } = navigator.connection ?? {}; // Mbit/s, where the browser tells
      const time = downlink > 0 ? `, ${words.aboutTime(duration((left * 8) / (downlink * 1e6)))}` : '';
      lines.push(`${words.toDownload(bytes(left))}${time}.`);
      if (download.quotaBytes !== undefined && download.quotaBytes < left) lines.push(words.storageShort(bytes(download.quotaBytes)));
    }
  }
  if (check.smaller?.length > 0) lines.push(`${words.smaller} ${check.smaller.map(({ file, bytes: size }) => `${file} (${bytes(size)})`).join(', ')}.`);
  return lines;
}

/** Where WebGPU is missing, what would help takes the place of everything else. */
export function showAdvice(check) {
  const { text, list } = advice(check, { userAgent: navigator.userAgent, secure: isSecureContext });
  at('advice-text').textContent = text;
  at('advice-list').replaceChildren(...list.map((where) => make('li', { textContent: where })));
  at('advice').hidden = false;
  at('composer').hidden = true;
}

/** What is good to know, though nothing went wrong. */
export function showNotes(notes) {
  const all = navigator.onLine ? notes : [...notes, words.offline];
  at('note').textContent = all.join(' ');
  at('note').hidden = all.length === 0;
}
