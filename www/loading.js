// Loading the chosen model: the bar, the figures beside it, and the button that loads, pauses and resumes.

import { isFromDisk, licences } from './models.js';
import { at, say } from './page.js';
import { isStop } from './run.js';
import { showNotes } from './states.js';
import { words } from './strings.js';
import { bytes, figures, ranOn } from './words.js';

/** A download of at least so many bytes is checked first, so that nothing is fetched in vain. */
const LARGE = 500e6;

export class Loading {
  #bar = at('loading');
  #button = at('load');
  #engine;
  #chooser;
  #run;
  #isOn = false;
  #isPausing = false;
  #progress;
  /** The model of which a part has arrived. */
  #resumable;

  constructor({ engine, chooser, run }) {
    this.#engine = engine;
    this.#chooser = chooser;
    this.#run = run;
    chooser.addEventListener('choice', () => !run.isOn && this.reset());
    chooser.addEventListener('kept', ({ detail: { complete } }) => {
      if (run.isOn || this.isReady) return;
      if (complete) return say(words.startKept(chooser.model.name));
      this.#resumable = chooser.key;
      this.showButton();
    });
  }

  get isOn() {
    return this.#isOn;
  }

  /** Whether the chosen model is the loaded one. */
  get isReady() {
    return this.#engine.key === this.#chooser.key;
  }

  /** Loads the chosen model, as part of what goes on. A stop is told here, and ends what goes on. */
  async load() {
    const { key, model } = this.#chooser;
    const { signal } = this.#run;
    this.#isOn = true;
    this.#isPausing = false;
    this.#progress = undefined;
    this.showButton();
    try {
      if (!isFromDisk(model) && model.bytes >= LARGE) await this.#chooser.refuseWhatCannotFit(signal);
      await this.#engine.load(key, { ...model.load, onProgress: (progress) => this.#show(model, progress), signal });
      const { notes, adapter } = this.#engine.info;
      showNotes(notes);
      at('ran-on').textContent = ranOn(adapter);
    } catch (error) {
      if (isStop(error)) this.#stopped(key);
      else if (error.code === 'network' && this.#bar.value > 0) this.#resumable = key;
      throw error;
    } finally {
      this.#isOn = false;
      this.showButton();
    }
  }

  /** What has arrived stays, and so does the bar. */
  pause() {
    this.#isPausing = true;
    this.#run.stop();
  }

  reset() {
    const { isReady } = this;
    this.#bar.value = isReady ? 1 : 0;
    this.#bar.setAttribute('aria-valuetext', isReady ? words.ready : words.notLoaded);
    at('figures').textContent = '';
    say(isReady ? words.ready : beforeLoading(this.#chooser.model));
    this.showButton();
  }

  showButton() {
    this.#button.disabled = !this.#isOn && (this.#run.isOn || this.isReady);
    this.#button.textContent = this.#isOn ? words.pause : this.#resumable === this.#chooser.key && !this.isReady ? words.resume : words.load;
  }

  #show(model, progress) {
    const { phase, loaded, total, cached } = progress;
    this.#progress = progress;
    const saying = phase !== 'weights' ? phase : isFromDisk(model) ? 'file' : loaded > 0 && cached === loaded ? 'kept' : 'weights';
    const sentence = words.phases[saying](model.name);
    say(sentence);
    if (phase === 'weights' && total === undefined) this.#bar.removeAttribute('value');
    else this.#bar.value = phase === 'ready' ? 1 : total ? loaded / total : 0;
    const text = loaded > 0 && phase === 'weights' ? figures(progress) : '';
    at('figures').textContent = text;
    this.#bar.setAttribute('aria-valuetext', text || sentence);
  }

  #stopped(key) {
    if (this.#isPausing) {
      this.#resumable = key;
      const { loaded, total } = this.#progress ?? {};
      if (loaded > 0) at('figures').textContent = figures({ loaded, total }); // no speed, and no end in sight
    } else this.reset();
    say(this.#isPausing ? words.paused : words.loadingStopped);
  }
}

/** What pressing Generate would fetch, and under which licence. */
function beforeLoading(model) {
  if (model.bytes === undefined || isFromDisk(model)) return words.start;
  return words.startWith(model.name, bytes(model.bytes), licences(model).join(words.and));
}
