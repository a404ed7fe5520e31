// The panel beside the text: what the model made of one token, the legend of the tints, and two small charts.

import { make } from './page.js';
import { bits, BOUNDS, entropy, percent, visible } from './probability.js';
import { words } from './strings.js';

export function makeLegend(list) {
  list.replaceChildren(...BOUNDS.map((bound, nth) => {
    const text = nth === 0 ? `≥ ${bound * 100} %` : bound === 0 ? `< ${BOUNDS[nth - 1] * 100} %` : `≥ ${bound * 100} %`;
    return make('li', { className: `p${nth}`, textContent: text });
  }));
}

/** Shows one token. `onBranch` is given an alternative when the visitor chooses it; without it none can be chosen. */
export function showToken(parent, piece, onBranch) {
  if (!piece) {
    parent.replaceChildren(make('p', { className: 'facts', textContent: words.tokenHint }));
    return;
  }
  const title = make('p', { className: 'token-text', textContent: visible(piece.text) });
  if (!piece.known) {
    parent.replaceChildren(title, make('p', { className: 'facts', textContent: words.tokenUnknown }));
    return;
  }
  const { logprob, top } = piece.known;
  const parts = [title, make('p', { className: 'facts', textContent: words.tokenIs(percent(logprob), bits(logprob).toFixed(1)) })];
  // The first few in any case; of the others, those that had a chance.
  const others = top.filter(({ text }) => text !== piece.text && text !== '').filter((other, nth) => nth < 3 || Math.exp(other.logprob) >= 0.001);
  if (others.length > 0) {
    const items = others.slice(0, 8).map((other) => {
      const share = percent(other.logprob);
      const button = make('button', { type: 'button', className: 'alternative', disabled: !onBranch },
        make('span', { className: 'visually-hidden', textContent: `${words.branch} ` }),
        make('span', { className: 'alternative-text', textContent: visible(other.text) }), ' ',
        make('span', { className: 'share', textContent: share }));
      button.style.setProperty('--share', Math.exp(other.logprob));
      button.addEventListener('click', () => onBranch?.(other));
      return make('li', {}, button);
    });
    const list = make('ul', { className: 'alternatives' }, ...items);
    list.setAttribute('aria-label', words.alternativesHere);
    parts.push(list, make('p', { className: 'facts', textContent: onBranch ? words.branchHint : words.pinHint }));
  }
  parent.replaceChildren(...parts);
}

/** Tokens that the charts show. */
const KEPT = 120;

/** Tokens per second and entropy of the last tokens, drawn at most a few times a second. */
export class Charts {
  static #PAUSE_MS = 200;
  #speeds = [];
  #entropies = [];
  #times = [];
  #timer;

  constructor({ speed, entropy, speedNow, entropyNow }) {
    Object.assign(this, { speed, entropy, speedNow, entropyNow });
    this.#draw();
  }

  clear() {
    this.#speeds = [];
    this.#entropies = [];
    this.#times = [];
    this.#draw();
  }

  add(top) {
    const now = performance.now();
    this.#times.push(now);
    if (this.#times.length > 12) this.#times.shift();
    const passed = now - this.#times[0];
    // Several tokens may come in one message: their speed is that of the last dozen.
    if (passed > 0) keep(this.#speeds, ((this.#times.length - 1) * 1000) / passed);
    if (top?.length > 0) keep(this.#entropies, entropy(top));
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#draw();
    }, Charts.#PAUSE_MS);
  }

  #draw() {
    const speed = this.#speeds.at(-1);
    const undecided = this.#entropies.at(-1);
    draw(this.speed, this.#speeds, KEPT);
    draw(this.entropy, this.#entropies, KEPT);
    this.speedNow.textContent = speed === undefined ? '–' : speed.toFixed(speed < 10 ? 1 : 0);
    this.entropyNow.textContent = undecided === undefined ? '–' : undecided.toFixed(1);
    const label = speed === undefined ? words.chartNone : words.chartIs(speed.toFixed(1), undecided?.toFixed(1));
    this.speed.setAttribute('aria-label', label);
    this.entropy.setAttribute('aria-label', undecided === undefined ? words.chartNone : `${undecided.toFixed(1)} ${words.entropyChart}`);
  }
}

function keep(list, value) {
  list.push(value);
  if (list.length > KEPT) list.shift();
}

/** A polyline over the chart's 120 by 36 units, the newest value at the right end. */
function draw(svg, values, width) {
  const most = Math.max(1e-9, ...values);
  const step = width / Math.max(24, values.length - 1);
  const from = width - step * (values.length - 1);
  const points = values.map((value, nth) => `${(from + nth * step).toFixed(1)},${(34 - (value / most) * 31).toFixed(1)}`);
  svg.firstElementChild.setAttribute('points', points.join(' '));
}
