// Numbers and situations → words for a reader, in the phrases of strings.js. Knows nothing of the page.

import { words } from './strings.js';

/** Decimal units, as file sizes are told elsewhere; one digit below ten, so that it does not flicker. */
export function bytes(count) {
  const units = ['B', 'kB', 'MB', 'GB'];
  let at = 0;
  while (count >= 1000 && at < units.length - 1) {
    count /= 1000;
    at += 1;
  }
  return `${at === 3 ? count.toFixed(2) : count < 10 && at > 0 ? count.toFixed(1) : Math.round(count)} ${units[at]}`;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** "12 of 98 MB · 4.1 MB/s · 21 s left", as far as known. */
export function figures({ loaded, total, bytesPerSecond, etaSeconds }) {
  const parts = [total === undefined ? bytes(loaded) : words.partOf(bytes(loaded), bytes(total))];
  if (bytesPerSecond !== undefined) parts.push(`${bytes(bytesPerSecond)}/s`);
  if (etaSeconds !== undefined && loaded < total) parts.push(words.timeLeft(duration(etaSeconds)));
  return parts.join(' · ');
}

export function speed(tokensPerSecond) {
  if (tokensPerSecond < 1) return words.secondsPerToken((1 / tokensPerSecond).toFixed(1));
  return words.tokensPerSecond(tokensPerSecond < 10 ? tokensPerSecond.toFixed(1) : `${Math.round(tokensPerSecond)}`);
}

/** Some browsers do not tell what a graphics card is called. */
export const ranOn = ({ name }) => words.ranOn(/^unnamed/.test(name) ? words.thisDevice : name);

/** What a visitor without WebGPU can do: first for the browser at hand, then where else it works. */
export function advice({ message }, { userAgent, secure }) {
  const { here: helps, elsewhere, insecure, worksIn } = words.webgpu;
  if (!secure) return { text: insecure, list: [] };
  const linux = /Linux/.test(userAgent) && !/Android/.test(userAgent);
  const browser = /Firefox\//.test(userAgent) ? 'firefox' : /Chrom(e|ium)\//.test(userAgent) ? 'chrome' : /Safari\//.test(userAgent) ? 'safari' : 'other';
  const help = browser === 'chrome' && linux ? helps.chromeOnLinux : helps[browser];
  const others = Object.entries(elsewhere).filter(([name]) => name !== browser || !linux).map(([, where]) => where);
  return { text: `${message[0].toUpperCase()}${message.slice(1)}. ${help} ${worksIn}`, list: others };
}
