// The models that the page offers, and those that its address or the visitor adds. Data only.

/**
 * @typedef {object} Model
 * @property {string} name      in the chooser
 * @property {object} load      options for Helium.load
 * @property {number} [bytes]   of the download
 * @property {string} facts     what to know before downloading it
 * @property {[string, string][]} [links]  licence and source: text, address
 */

/** @type {Record<string, Model>} */
export const MODELS = {
  helium: {
    name: 'Helium-1 2B',
    load: {
      weights: { repo: 'Hob-forge/helium-1-2b-GGUF', quant: 'Q4_K_M' },
      tokenizer: 'https://huggingface.co/kyutai/helium-1-2b/resolve/main/tokenizer.json',
    },
    bytes: 1.24e9,
    facts: '1.24 GB to download. 24 languages.',
    links: [
      ['CC-BY-SA 4.0', 'https://creativecommons.org/licenses/by-sa/4.0/'],
      ['Gemma terms', 'https://ai.google.dev/gemma/terms'],
      ['Source', 'https://huggingface.co/kyutai/helium-1-2b'],
    ],
  },
  local: {
    name: 'SmolLM2 135M, small demo',
    load: { weights: 'models/SmolLM2-135M-Instruct.Q4_1.gguf' },
    bytes: 98e6,
    facts: '98 MB, from this server. English only; a small model to see the engine run.',
    links: [['Apache-2.0', 'https://www.apache.org/licenses/LICENSE-2.0']],
  },
};

/** `?model=local`, `?weights=URL&tokenizer=URL` → the models to offer and the one chosen at first. */
export function fromAddress({ search, hostname, href }) {
  const query = new URLSearchParams(search);
  const models = { ...MODELS };
  // The demo model is served by `./build.sh serve`, and is not part of the site elsewhere.
  const atHome = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname);
  if (!atHome && query.get('model') !== 'local') delete models.local;

  const weights = query.get('weights');
  if (weights !== null) {
    models.address = fromUrl(weights, query.get('tokenizer'), href);
    return { models, chosen: 'address' };
  }
  const wanted = query.get('model');
  return { models, chosen: wanted !== null && wanted in models ? wanted : 'helium' };
}

function fromUrl(weights, tokenizer, base) {
  let name = weights;
  let host = '';
  try {
    const url = new URL(weights, base);
    name = decodeURIComponent(url.pathname.split('/').pop()) || url.host;
    host = url.host;
  } catch {
    // Left as written: loading it says what is wrong.
  }
  return { name, load: { weights, ...(tokenizer && { tokenizer }) }, facts: `From ${host || 'an address'}, as this page's address asks. You decide whether to trust it.` };
}

/** A file from the visitor's disk. */
export function fromFile(file) {
  return { name: file.name, load: { weights: file }, bytes: file.size, facts: 'A file of yours, read from disk; nothing is uploaded.' };
}

/** Beginnings worth continuing. */
export const SAMPLES = [
  ['English', 'The old lighthouse keeper had one rule, and he had kept it for forty years:'],
  ['Français', 'Il était une fois, dans un village au bord de la mer,'],
  ['Deutsch', 'Das Rezept meiner Großmutter für Apfelkuchen beginnt so:'],
  ['Polski', 'Najpiękniejszy dzień tamtego lata zaczął się od deszczu.'],
  ['Ελληνικά', 'Το μικρό νησί είχε μόνο έναν δρόμο, και'],
];
