// Counts bytes as they come → the `Progress` that callers see, about ten times a second.

import type { Origin } from './fetch.js';
import type { Progress } from './types.js';

const INTERVAL_MS = 100;
const WINDOW_MS = 4000; // long enough to be steady, short enough to follow a change

export class Meter {
  private phase: Progress['phase'] = 'gpu';
  private loaded = 0;
  private cached = 0;
  private from: Origin | undefined;
  private total: number | undefined;
  private lastReport = -Infinity;
  /** Recent (time, bytes) pairs, oldest first; the rate is taken across them. */
  private readonly recent: [number, number][] = [];

  constructor(
    private readonly report: (progress: Progress) => void,
    private readonly now: () => number = () => performance.now(),
  ) {}

  enter(phase: Progress['phase']): void {
    this.phase = phase;
    this.emit();
  }

  expect(total: number | undefined): void {
    this.total = total;
  }

  add(bytes: number, from: Origin): void {
    this.loaded += bytes;
    if (from === 'cache') this.cached += bytes;
    // The rate is that of what is under way, not of what was here already.
    if (this.from !== from) this.recent.length = 0;
    this.from = from;
    const now = this.now();
    if (now - this.lastReport < INTERVAL_MS) return;
    this.recent.push([now, this.loaded]);
    while (this.recent.length > 2 && now - this.recent[0]![0] > WINDOW_MS) this.recent.shift();
    this.emit();
  }

  /** The weights are read once more, from their beginning. */
  restart(): void {
    this.loaded = this.cached = this.recent.length = 0;
    this.emit();
  }

  private emit(): void {
    this.lastReport = this.now();
    const progress: Progress = { phase: this.phase, loaded: this.loaded };
    if (this.cached > 0) progress.cached = this.cached;
    if (this.total !== undefined) progress.total = this.total;
    const [from, to] = [this.recent[0], this.recent.at(-1)];
    if (this.phase === 'weights' && from && to && to[0] > from[0]) {
      progress.bytesPerSecond = ((to[1] - from[1]) / (to[0] - from[0])) * 1000;
      if (this.total !== undefined && progress.bytesPerSecond > 0) {
        progress.etaSeconds = Math.max(0, this.total - this.loaded) / progress.bytesPerSecond;
      }
    }
    this.report(progress);
  }
}
