// Probabilities → the five classes of the tint, and words for them.

import { words } from './strings.js';

/** Lower bounds of the classes, the likeliest first. */
export const BOUNDS = [0.5, 0.2, 0.05, 0.01, 0];

/** 0 for the likeliest class to 4. */
export const bin = (logprob) => BOUNDS.findIndex((bound) => Math.exp(logprob) >= bound);

/** "34 %", "2.1 %", "under 0.1 %". */
export function percent(logprob) {
  const share = Math.exp(logprob) * 100;
  if (share < 0.1) return words.under('0.1 %');
  return `${share < 9.95 ? share.toFixed(1) : Math.round(share)} %`;
}

export const bits = (logprob) => -logprob / Math.LN2;

/** Entropy in bits of a distribution of which the likeliest are known; what is missing counts as one more. */
export function entropy(top) {
  let rest = 1;
  let sum = 0;
  for (const { logprob } of top) {
    const share = Math.exp(logprob);
    rest -= share;
    sum += share * bits(logprob);
  }
  return rest > 1e-6 ? sum - rest * Math.log2(rest) : sum;
}

/** A token's text as it can be seen: spaces and line ends too. */
export function visible(text) {
  return text.replace(/\n/g, '↵').replace(/\t/g, '⇥').replace(/^ +| +$/g, (spaces) => '·'.repeat(spaces.length)) || '∅';
}
