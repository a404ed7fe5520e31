// The choice of a model, and what is known of it before it is loaded: its facts, whether it is in this browser already,
// whether this device can run it. Dispatches `choice` when another is chosen or the same is looked at anew, and then
// `kept` with what this browser has of it, if anything.

import { Helium } from './helium/index.js';
import { fromFiles, isFromDisk } from './models.js';
import { at, make, say } from './page.js';
import { stopped } from './run.js';
import { fitLines, hideAdvice, showAdvice, showNotes } from './states.js';
import { words } from './strings.js';
import { bytes } from './words.js';

/** A checkpoint's bytes once quantised, as a share: some 4.9 bits in place of 16. */
const QUANTIZED = 0.31;

/** The options of a load that a check takes too. */
const checked = ({ load: { weights, quantize } }) => ({ weights, ...(quantize && { quantize }) });

export class Chooser extends EventTarget {
  #select = at('model');
  #hadAdapter = false;
  #facts = at('model-facts');

  constructor({ models, chosen }) {
    super();
    this.models = models;
    for (const key of Object.keys(models)) this.#offer(key);
    this.#select.value = chosen;
    this.#select.addEventListener('change', () => this.show());
    at('fit').addEventListener('click', () => this.#showFit());
  }

  get key() {
    return this.#select.value;
  }

  get model() {
    return this.models[this.key];
  }

  set disabled(isDisabled) {
    this.#select.disabled = isDisabled;
  }

  /** Adds a model that the visitor named, and chooses it. */
  add(key, model) {
    if (!(key in this.models)) {
      this.models[key] = model;
      this.#offer(key);
    }
    this.#select.value = key;
    this.show();
  }

  addFiles(list) {
    const files = [...list];
    if (files.length === 0) return;
    this.add(`file ${files.map(({ name, size, lastModified }) => `${name} ${size} ${lastModified}`).join(' ')}`, fromFiles(files));
  }

  async show() {
    const { model } = this;
    const { facts, links = [] } = model;
    this.#facts.textContent = facts;
    links.forEach(([text, href], nth) => {
      if (nth > 0) this.#facts.append('\u00a0·');
      this.#facts.append(' ', make('a', { textContent: text, href, rel: 'noreferrer', target: '_blank' }));
    });
    at('fit-result').hidden = true;
    this.dispatchEvent(new Event('choice'));
    await Promise.all([this.#showAdapter(model), this.#showKept(model)]);
  }

  /** Nothing large is downloaded that the graphics card cannot hold. A check that fails otherwise leaves the word to the load. */
  async refuseWhatCannotFit(signal) {
    const { model } = this;
    const [kept] = await Helium.cached(model.load.weights).catch(() => []);
    if (kept?.complete) return;
    say(words.checking);
    const check = await Promise.race([Helium.check(checked(model)).catch(() => ({ ok: true })), stopped(signal)]);
    if (check.ok || check.code !== 'out-of-memory') return;
    throw Object.assign(new Error(fitLines(check).join(' ')), { code: check.code });
  }

  #offer(key) {
    const { group, name } = this.models[key];
    let parent = this.#select.querySelector(`optgroup[data-group="${group}"]`);
    if (!parent) {
      parent = make('optgroup', { label: words.groups[group] });
      parent.dataset.group = group;
      this.#select.append(parent);
    }
    parent.append(make('option', { value: key, textContent: name }));
  }

  /** Says whether the model's weights are in this browser already. */
  async #showKept(model) {
    if (isFromDisk(model)) return;
    const [kept] = await Helium.cached(model.load.weights).catch(() => []); // a wrong address is told when it is loaded
    if (!kept || model !== this.model || this.#facts.querySelector('.kept')) return;
    const text = kept.complete ? words.noDownload : words.partKept(bytes(kept.bytes));
    this.#facts.append(' ', make('span', { className: 'kept', textContent: text }));
    this.dispatchEvent(new CustomEvent('kept', { detail: kept }));
  }

  /** Says before any download whether this device can run the model, and how well. */
  async #showAdapter({ bytes: size, load: { quantize } }) {
    // What is quantised as it arrives takes less on the device than on the way.
    const check = await Helium.check({ bytes: size !== undefined && quantize ? size * QUANTIZED : size });
    if (!check.ok) {
      // An adapter that was there may be back the next moment, and the text must stay within reach.
      if (!this.#hadAdapter) return showAdvice(check);
      return showNotes([words.noAdapterNow]);
    }
    this.#hadAdapter = true;
    hideAdvice();
    const notes = [];
    if (check.adapter.software) notes.push(words.software);
    if (check.fits === 'unlikely') notes.push(words.maybeTooLarge);
    showNotes(notes);
  }

  async #showFit() {
    const box = at('fit-result');
    box.hidden = false;
    box.textContent = words.checking;
    at('fit').disabled = true;
    const check = await Helium.check(checked(this.model)).catch(({ code, message }) => ({ ok: false, code, message }));
    at('fit').disabled = false;
    box.replaceChildren(...fitLines(check).map((textContent) => make('p', { textContent })));
  }
}
