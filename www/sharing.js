// What leads back to this place or to another: the page's address with its settings, a link, the same as code.

import { at, say } from './page.js';
import * as settings from './settings.js';
import { words } from './strings.js';

/** The settings stand in the address, after the #. */
export function keepInAddress() {
  const hash = settings.toHash();
  history.replaceState(null, '', `${location.pathname}${location.search}${hash && `#${hash}`}`);
}

/** Gives the buttons that copy what they do. */
export function makeCopying({ chooser, editor, writing }) {
  at('copy').addEventListener('click', () => copy(editor.text, words.copied));
  at('copy-link').addEventListener('click', () => copy(linkHere(chooser, writing.beginning), words.linkCopied));
  at('copy-code').addEventListener('click', () => {
    const { text, seed } = writing.beginning;
    copy(settings.toCode(chooser.model.load, text, { ...settings.read(), ...(seed !== undefined && { seed }) }), words.codeCopied);
  });
}

/** The address that leads here, with the chosen model. */
function linkHere({ key, model }, { text, seed }) {
  const url = new URL(location.href);
  if (key.startsWith('url ')) {
    const { weights, tokenizer } = model.load;
    url.search = `?${new URLSearchParams({ weights, ...(tokenizer && { tokenizer }) })}`;
  } else if (key !== 'address' && !key.startsWith('file ')) {
    url.search = key === 'helium' ? '' : `?model=${key}`;
  }
  url.hash = settings.toHash({ text: text || undefined, seed });
  return url.href;
}

async function copy(text, saying) {
  say(await navigator.clipboard.writeText(text).then(() => saying, () => words.copyFailed));
}
