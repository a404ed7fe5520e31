// The models that the page offers, and those that its address or the visitor adds. Data only.

import { words } from './strings.js';

/**
 * @typedef {object} Model
 * @property {string} name      in the chooser
 * @property {string} group     which part of the chooser: a key of `groups` in strings.js
 * @property {object} load      options for Helium.load
 * @property {number} [bytes]   of the download
 * @property {string} facts     what to know before downloading it
 * @property {[string, string][]} [links]  licence and source: text, address; what is no source is a licence
 */

const SHARE_ALIKE = ['CC-BY-SA 4.0', 'https://creativecommons.org/licenses/by-sa/4.0/'];
const GEMMA = ['Gemma terms', 'https://ai.google.dev/gemma/terms'];
const SOURCE = 'Source';
const source = (repo) => [SOURCE, `https://huggingface.co/${repo}`];

/** The specialists: Helium-1 made for one kind of text each, after the ending of its name. */
const SPECIALISTS = {
  books: 'books',
  hum: 'the humanities',
  life: 'life sciences',
  main: 'general texts',
  pop: 'popular culture',
  science: 'science',
  stem: 'technology and mathematics',
  wiki: 'encyclopaedias',
};

/** Said of checkpoints whose file names are unconfirmed. */
const UNCONFIRMED = 'It is taken to be one file, model.safetensors, which we could not confirm: if it is not, loading says so.';

const specialist = ([name, what]) => {
  const repo = `kyutai/helium-1-2b-${name}`;
  return [`helium-${name}`, {
    name: `Helium-1 2B ${name}`,
    group: 'specialists',
    load: { weights: { repo, file: 'model.safetensors' }, quantize: 'q4_k_m' },
    bytes: 4.05e9,
    facts: `Helium-1 for ${what}. About 4.05 GB to download: the full checkpoint, made smaller in this page as it arrives. ${UNCONFIRMED}`,
    links: [SHARE_ALIKE, GEMMA, source(repo)],
  }];
};

/** @type {Record<string, Model>} */
export const MODELS = {
  helium: {
    name: 'Helium-1 2B',
    group: 'helium',
    load: {
      weights: { repo: 'Hob-forge/helium-1-2b-GGUF', quant: 'Q4_K_M' },
      tokenizer: 'https://huggingface.co/kyutai/helium-1-2b/resolve/main/tokenizer.json',
    },
    bytes: 1.24e9,
    facts: '1.24 GB to download, once. 24 languages.',
    links: [SHARE_ALIKE, GEMMA, source('kyutai/helium-1-2b')],
  },
  preview: {
    name: 'Helium-1 preview 2B',
    group: 'helium',
    load: { weights: { repo: 'kyutai/helium-1-preview-2b', file: 'model.safetensors' }, quantize: 'q4_k_m' },
    bytes: 4.35e9,
    facts: `The earlier preview, of fewer languages. About 4.35 GB to download: the full checkpoint, made smaller in this page as it arrives. ${UNCONFIRMED}`,
    links: [['CC-BY 4.0', 'https://creativecommons.org/licenses/by/4.0/'], source('kyutai/helium-1-preview-2b')],
  },
  ...Object.fromEntries(Object.entries(SPECIALISTS).map(specialist)),
  local: {
    name: 'SmolLM2 135M, small demo',
    group: 'other',
    load: { weights: 'models/SmolLM2-135M-Instruct.Q4_1.gguf' },
    bytes: 98e6,
    facts: '98 MB, from this server. English only; a small model to see the engine run.',
    links: [['Apache-2.0', 'https://www.apache.org/licenses/LICENSE-2.0']],
  },
};

/** The names of the licences that come with a model. */
export const licences = ({ links = [] }) => links.map(([text]) => text).filter((text) => text !== SOURCE);

export const isFromDisk = ({ load: { weights } }) => weights instanceof Blob || weights[0] instanceof Blob;

/** `?model=local`, `?weights=URL&tokenizer=URL` → the models to offer and the one chosen at first. */
export function fromAddress({ search, hostname, href }) {
  const query = new URLSearchParams(search);
  const models = { ...MODELS };
  // The demo model is served by `./build.sh serve`, and is not part of the site elsewhere.
  const atHome = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname);
  if (!atHome && query.get('model') !== 'local') delete models.local;

  const weights = query.get('weights');
  if (weights !== null) {
    models.address = fromUrl(weights, query.get('tokenizer'), href, words.addressAsks);
    return { models, chosen: 'address' };
  }
  const wanted = query.get('model');
  return { models, chosen: wanted !== null && Object.hasOwn(models, wanted) ? wanted : 'helium' };
}

/** Weights at an address, named by it; `why` ends the sentence on them. */
export function fromUrl(weights, tokenizer, base, why) {
  let name = weights;
  let host = '';
  try {
    const url = new URL(weights, base);
    name = decodeURIComponent(url.pathname.split('/').pop()) || url.host;
    host = url.host;
  } catch {
    // Left as written: loading it says what is wrong.
  }
  return { name, group: 'other', load: { weights, ...(tokenizer && { tokenizer }) }, facts: words.fromHost(host, why) };
}

/** Files from the visitor's disk: one GGUF, or a checkpoint with its config and tokenizer. */
export function fromFiles(files) {
  const main = files.find(({ name }) => /\.(gguf|safetensors)$/i.test(name)) ?? files[0];
  const name = files.length === 1 ? main.name : words.andMore(main.name, files.length - 1);
  const isCheckpoint = files.some((file) => /\.safetensors$/i.test(file.name));
  return {
    name,
    group: 'other',
    load: { weights: files.length === 1 ? main : files, ...(isCheckpoint && { quantize: 'q4_k_m' }) },
    bytes: files.reduce((total, { size }) => total + size, 0),
    facts: words.yourFiles(files.length),
  };
}
