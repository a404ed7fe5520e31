// Weights and tokenizer options → the files to open, in order. Knows names and layouts of model
// folders and of the hub, and nothing of their contents but a safetensors index.

import { HeliumError } from './errors.js';
import { fileName, openBlob, openUrl, readAll, Refused, sizeOf, type OpenFile, type Transfer } from './fetch.js';
import type { WireLoad } from './options.js';
import type { HubWeights } from './types.js';

/** The model hub. Named here and nowhere else. */
const HUB = 'https://huggingface.co';

/** A file of weights that can be opened; its size, where it is known beforehand. */
export interface Part {
  name: string;
  size: number | undefined;
  open(): Promise<OpenFile>;
}

export interface Source {
  configJson?: string;
  tokenizerJson?: Uint8Array;
  parts: Part[];
  /** What did not go as asked, for `info.notes`. */
  notes: string[];
}

type HubEntry = { type: string; path: string; size?: number };

/** Finds the weights' files, and fetches the small ones beside them. `hub` is for tests. */
export async function resolveSource(options: WireLoad, transfer: Omit<Transfer, 'headers' | 'origin'> = {}, hub = HUB): Promise<Source> {
  const { weights, headers } = options;
  if (weights instanceof Blob) {
    const opened = openBlob(weights);
    const part: Part = { name: opened.name, size: weights.size, open: async () => opened };
    return { parts: [part], ...(await tokenizerOf(options, undefined, { headers, ...transfer })) };
  }

  const origin = new URL(Array.isArray(weights) ? weights[0]! : hub).origin;
  const how: Transfer = { headers, origin, ...transfer };
  const found = Array.isArray(weights) ? { urls: weights } : await onHub(weights, how, hub);
  const first = found.urls[0]!;
  const name = fileName(first);
  const folderLike = /\.safetensors(\.index\.json)?$/.test(name);
  const urls = name.endsWith('.index.json') ? await indexed(first, how) : found.urls;
  const sizes = found.sizes ?? (urls.length > 1 ? await Promise.all(urls.map((url) => sizeOf(url, how))) : []);
  const parts = urls.map((url, at): Part => ({ name: fileName(url), size: sizes[at], open: () => openUrl(url, how) }));

  const beside = folderLike || found.hasTokenizer ? new URL('tokenizer.json', first).href : undefined;
  const source: Source = { parts, ...(await tokenizerOf(options, beside, how, !folderLike)) };
  if (folderLike) {
    source.configJson = new TextDecoder().decode(await readAll(await openUrl(new URL('config.json', first).href, how)));
  }
  return source;
}

/** The tokenizer asked for, else the one beside the weights. A GGUF has a vocabulary to fall back on. */
async function tokenizerOf(
  { tokenizer }: WireLoad,
  beside: string | undefined,
  how: Transfer,
  hasVocabulary = true,
): Promise<Pick<Source, 'tokenizerJson' | 'notes'>> {
  if (tokenizer instanceof Blob) return { tokenizerJson: await readAll(openBlob(tokenizer)), notes: [] };
  const url = tokenizer ?? beside;
  if (url === undefined) return { notes: [] };
  try {
    return { tokenizerJson: await readAll(await openUrl(url, how)), notes: [] };
  } catch (error) {
    if (!(error instanceof Refused && hasVocabulary && [401, 403, 404].includes(error.status))) throw error;
    return { notes: [`tokenizer: ${error.message}. The weights' own vocabulary is used instead.`] };
  }
}

/** The shards that a `model.safetensors.index.json` names, in order of name. */
async function indexed(url: string, how: Transfer): Promise<string[]> {
  const index = parse(await readAll(await openUrl(url, how)), url) as { weight_map?: unknown };
  const map = index.weight_map;
  const names = typeof map === 'object' && map !== null ? [...new Set(Object.values(map))].sort() : [];
  if (names.length === 0 || !names.every((name) => typeof name === 'string' && /^[\w.-]+\.safetensors$/.test(name))) {
    throw new HeliumError('corrupt', `${fileName(url)}: expected "weight_map" from tensor names to .safetensors files beside it`);
  }
  return names.map((name) => new URL(String(name), url).href);
}

/** Resolves the hub shorthand. A quantisation is found by listing the repository: file names vary. */
async function onHub(
  { repo, file, quant, revision = 'main' }: HubWeights,
  how: Transfer,
  hub: string,
): Promise<{ urls: string[]; sizes?: (number | undefined)[]; hasTokenizer?: boolean }> {
  const encode = (path: string): string => path.split('/').map(encodeURIComponent).join('/');
  const resolve = (path: string): string => `${hub}/${repo}/resolve/${encodeURIComponent(revision)}/${encode(path)}`;
  if (file !== undefined) return { urls: [resolve(file)] };

  const listing = `${hub}/api/models/${repo}/tree/${encodeURIComponent(revision)}?recursive=true`;
  const entries = parse(await readAll(await openUrl(listing, how)), listing) as HubEntry[];
  if (!Array.isArray(entries)) throw new HeliumError('network', `${repo}: the hub's listing is not a list of files`);
  const files = entries.filter((entry) => entry.type === 'file' && typeof entry.path === 'string');
  const chosen = chooseQuant(files.map((entry) => entry.path), repo, quant);
  return {
    urls: chosen.map(resolve),
    sizes: chosen.map((path) => files.find((entry) => entry.path === path)?.size),
    hasTokenizer: files.some((entry) => entry.path === chosen[0]!.replace(/[^/]*$/, 'tokenizer.json')),
  };
}

/** The one GGUF (or its shards, in order) among `paths` whose name holds `quant` as a word of its own. */
export function chooseQuant(paths: string[], repo: string, quant: string): string[] {
  const ggufs = paths.filter((path) => /\.gguf$/i.test(path)).sort();
  const word = new RegExp(`(^|[-._/])${quant}([-./]|$)`, 'i');
  const matching = ggufs.filter((path) => word.test(path));
  const whole = (path: string): string => path.replace(/-\d{5}-of-\d{5}(?=\.gguf$)/i, '');
  const models = new Set(matching.map(whole));
  if (models.size === 1) return matching;
  throw new HeliumError(
    'invalid-argument',
    models.size === 0
      ? `quant: no GGUF file of ${repo} is named ${quant}; it has ${ggufs.join(', ') || 'none at all'}`
      : `quant: several files of ${repo} are named ${quant} (${[...models].join(', ')}): choose one with \`file\``,
  );
}

function parse(bytes: Uint8Array, url: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new HeliumError('corrupt', `${fileName(url)}: expected JSON (${String(cause)})`, { cause });
  }
}
