// Numbers and situations → words for a reader. Knows nothing of the page.

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
  const parts = [total === undefined ? bytes(loaded) : `${bytes(loaded)} of ${bytes(total)}`];
  if (bytesPerSecond !== undefined) parts.push(`${bytes(bytesPerSecond)}/s`);
  if (etaSeconds !== undefined && loaded < total) parts.push(`${duration(etaSeconds)} left`);
  return parts.join(' · ');
}

export function speed(tokensPerSecond) {
  if (tokensPerSecond < 1) return `${(1 / tokensPerSecond).toFixed(1)} seconds per token`;
  return `${tokensPerSecond < 10 ? tokensPerSecond.toFixed(1) : Math.round(tokensPerSecond)} tokens per second`;
}

export const plural = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`;

/** What a visitor without WebGPU can do: first for the browser at hand, then where else it works. */
export function advice({ message }, { userAgent, secure }) {
  if (!secure) return { text: 'Browsers offer WebGPU only to pages served over https or from localhost. Open this page at such an address.', list: [] };
  const elsewhere = {
    chrome: 'Chrome or Edge 113 and later on Windows, macOS and ChromeOS; 121 and later on Android',
    firefox: 'Firefox 141 and later on Windows, 145 and later on Macs with Apple silicon',
    safari: 'Safari 26 and later on macOS, iOS and iPadOS',
  };
  const linux = /Linux/.test(userAgent) && !/Android/.test(userAgent);
  let here = 'chrome';
  let text;
  if (/Firefox\//.test(userAgent)) {
    here = 'firefox';
    text = 'In this Firefox it is switched off or missing: open about:config, set dom.webgpu.enabled to true and restart, or update Firefox.';
  } else if (/Chrom(e|ium)\//.test(userAgent)) {
    text = linux
      ? 'In Chrome on Linux it may be switched off: open chrome://flags, enable “Unsafe WebGPU Support” and “Vulkan”, and restart.'
      : 'Update this browser, and see that graphics acceleration is on under Settings, System.';
  } else if (/Safari\//.test(userAgent)) {
    here = 'safari';
    text = 'Update to Safari 26, which comes with macOS 26, iOS 26 and iPadOS 26.';
  } else {
    text = 'Use a browser that has it.';
  }
  const others = Object.entries(elsewhere).filter(([name]) => name !== here || !linux).map(([, where]) => where);
  return { text: `${message[0].toUpperCase()}${message.slice(1)}. ${text} WebGPU works in:`, list: others };
}
