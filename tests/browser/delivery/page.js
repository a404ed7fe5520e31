// The page of delivery.mjs: one function for each step that the driver asks for; all return plain data.

import { Helium } from './helium/index.js';

const MEANS = Symbol.for('helium-webgpu.means');
const Native = Worker;
let blobs;

/** What the worker calls of an engine. */
const STAND_IN = `
  import { Engine, Sha256 } from '${new URL('helium/wasm/helium.js', location)}';
  Engine.open = async () => {
    let sha, sha256;
    return {
      adapter: () => ({}), begin: () => void (sha = new Sha256()), beginFile() {}, push: (bytes) => sha.update(bytes), flush: async () => {}, endFile() {},
      finish: async () => (sha256 = sha.hex()), info: () => ({ sha256 }), stats: () => ({}), tuning() {}, free() {},
    };
  };
`;

async function outcome(work) {
  try {
    return { value: await work() };
  } catch (error) {
    if (error.name !== 'HeliumError') throw error;
    return { error: { code: error.code, message: error.message } };
  }
}

const steps = {
  /**
   * Loads, and closes. With `text`, the engine loads the model and scores that; without, a stand-in only tells the SHA-256
   * of what it is given, since software adapters take seconds to compile. `patch`: code for the worker to run first.
   */
  load: ({ options, means, patch = '', text }) =>
    outcome(async () => {
      globalThis.Worker = patched(text === undefined ? STAND_IN + patch : patch);
      if (options.weights === 'blobs') options.weights = blobs;
      const progress = [];
      // Scores are compared: which kernels are fastest may differ from load to load.
      const gpu = { kernels: 'baseline' };
      const helium = await Helium.load({ gpu, ...options, [MEANS]: means, contextLength: 256, onProgress: (now) => progress.push(now) });
      try {
        const score = text === undefined ? undefined : await helium.score(text);
        return { logprobs: score?.logprobs, meanNll: score?.meanNll, progress, info: helium.info };
      } finally {
        await helium.close();
      }
    }),

  check({ options, means, patch }) {
    globalThis.Worker = patch ? patched(patch) : Native;
    return Helium.check({ ...options, [MEANS]: means });
  },
  cached: (weights) => Helium.cached(weights),
  deleteCached: (model) => outcome(() => Helium.deleteCached(model)),

  /** Files as a visitor picks them. */
  async pick(paths) {
    blobs = await Promise.all(paths.map(async (path) => new File([await (await fetch(path)).arrayBuffer()], path.split('/').pop())));
  },

  /** Every file in this origin's storage, with its size. */
  async stored() {
    const found = {};
    for await (const [path, handle] of walk(await navigator.storage.getDirectory(), '')) found[path] = (await handle.getFile()).size;
    return found;
  },

  /** Deletes what is known of the files, as an end before the first record leaves it. */
  async forget() {
    for await (const [path, , folder, name] of walk(await navigator.storage.getDirectory(), '')) if (path.endsWith('.json')) await folder.removeEntry(name);
  },

  /** Changes the largest file there is: cuts it, or flips a bit. */
  async damage({ size, flip }) {
    let largest;
    for await (const [path, handle] of walk(await navigator.storage.getDirectory(), '')) {
      const file = await handle.getFile();
      if (path.endsWith('.data') && file.size > (largest?.file.size ?? 0)) largest = { handle, file };
    }
    const writable = await largest.handle.createWritable({ keepExistingData: true });
    if (size !== undefined) await writable.truncate(size);
    if (flip !== undefined) {
      const [byte] = new Uint8Array(await largest.file.slice(flip, flip + 1).arrayBuffer());
      await writable.write({ type: 'write', position: flip, data: new Uint8Array([byte ^ 1]) });
    }
    await writable.close();
  },
};

async function* walk(folder, path) {
  for await (const [name, handle] of folder.entries()) {
    if (handle.kind === 'directory') yield* walk(handle, `${path}${name}/`);
    else yield [path + name, handle, folder, name];
  }
}

const moduleUrl = (code) => URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));

function patched(patch) {
  return class extends Native {
    constructor(url, options) {
      super(moduleUrl(`import '${moduleUrl(patch)}'; import '${url}';`), options);
    }
  };
}

globalThis.step = (name, argument) => steps[name](argument);
