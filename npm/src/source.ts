// Weights and tokenizer options → the files to open, in order. Knows the names and layouts of model
// folders, and nothing of their contents but a safetensors index.

import { ModelFolder } from './cache.js';
import { HeliumError } from './errors.js';
import { blobName, fileName, openBlob, readAll, readJson, readSlice, Refused, type OpenFile, type Transfer } from './fetch.js';
import { addressOf, chooseQuant, HUB, isCommit, list, modelId, unsharded, type HubFile } from './hub.js';
import { Files, type Wanted } from './open.js';
import { isFiles, type WireLoad } from './options.js';
import type { HubWeights } from './types.js';

/** A file of weights; its size and its SHA-256, where they are known beforehand. */
export interface Part {
  name: string;
  size: number | undefined;
  sha256: string | undefined;
  open(): Promise<OpenFile>;
  /** Some bytes of it, for a look at its header; fewer at its end. */
  read(from: number, to: number): Promise<Uint8Array>;
  /** Bytes of it that this browser keeps. */
  kept(): Promise<number>;
}

export interface Source {
  configJson?: string;
  tokenizerJson?: Uint8Array | undefined;
  parts: Part[];
  /** What did not go as asked, for `info.notes`; some of it shows only while the weights are read. */
  notes: Set<string>;
}

/** How to find and fetch: all of it has defaults, which tests change. */
export interface Means extends Omit<Transfer, 'headers' | 'origin'> {
  hub?: string;
}

const isSafetensors = (name: string): boolean => /\.safetensors(\.index\.json)?$/.test(name);

/** Finds the weights' files, and fetches the small ones beside them: all, or for a look at the headers no tokenizer. */
export async function resolveSource(options: WireLoad, means: Means = {}, what: 'all' | 'headers' = 'all'): Promise<Source> {
  const { weights } = options;
  const source = await (isFiles(weights) ? fromDisk(weights, options, means, what) : fromUrls(weights, options, means, what));
  const { sha256 } = options;
  if (sha256 && sha256.length !== source.parts.length) {
    throw new HeliumError('invalid-argument', `sha256: expected ${source.parts.length}, one for each file of weights, found ${sha256.length}`);
  }
  source.parts.forEach((part, nth) => (part.sha256 = sha256?.[nth] ?? part.sha256));
  return source;
}

/** Files that the visitor dropped or picked: shards in the order of their names, and what lies beside them. */
async function fromDisk(blobs: Blob[], options: WireLoad, { onBytes, hub: _, ...means }: Means, what: 'all' | 'headers'): Promise<Source> {
  const named = (name: string): Blob | undefined => blobs.find((blob) => blobName(blob) === name);
  const whole = async (blob: Blob): Promise<Uint8Array> => readAll(openBlob(blob));
  let chosen = blobs;
  if (blobs.length > 1) {
    const index = blobs.find((blob) => blobName(blob).endsWith('.safetensors.index.json'));
    if (index) {
      chosen = shardsOf(readJson(await whole(index), blobName(index)), blobName(index)).map((name) => {
        const shard = named(name);
        if (!shard) throw new HeliumError('invalid-argument', `weights: ${blobName(index)} names ${name}, which is not among the files: add it`);
        return shard;
      });
    } else {
      chosen = blobs.filter((blob) => /\.(gguf|safetensors)$/i.test(blobName(blob)));
      chosen.sort((a, b) => (blobName(a) < blobName(b) ? -1 : 1));
      if (chosen.length === 0) throw new HeliumError('invalid-argument', 'weights: none of the files is a .gguf or a .safetensors');
    }
  }
  const parts = chosen.map((blob): Part => ({
    name: blobName(blob),
    size: blob.size,
    sha256: undefined,
    open: async () => openBlob(blob, onBytes),
    read: (from, to) => readSlice(blob, from, to),
    kept: async () => blob.size,
  }));
  const source: Source = { parts, notes: new Set() };
  if (isSafetensors(parts[0]!.name)) {
    const config = named('config.json');
    if (!config) throw new HeliumError('invalid-argument', `weights: beside ${parts[0]!.name}, config.json is needed: give an array of files with it among them`);
    source.configJson = text(await whole(config));
  }
  const tokenizer = options.tokenizer ?? named('tokenizer.json');
  if (what === 'headers' || tokenizer === undefined) return source;
  if (tokenizer instanceof Blob) source.tokenizerJson = await whole(tokenizer);
  else source.tokenizerJson = await tokenizerAt({ url: tokenizer }, new Files({ ...means, headers: {} }), source, !isSafetensors(parts[0]!.name));
  return source;
}

async function fromUrls(weights: string[] | HubWeights, options: WireLoad, { hub = HUB, ...means }: Means, what: 'all' | 'headers'): Promise<Source> {
  const notes = new Set<string>();
  const origin = new URL(Array.isArray(weights) ? weights[0]! : hub).origin;
  const folder = options.cache ? await ModelFolder.open(modelId(weights, hub), notes, what === 'all') : undefined;
  const files = new Files({ headers: options.headers, origin, ...means }, folder);

  const listing = Array.isArray(weights) ? [] : await listingFor(weights, files, hub);
  const commit = !Array.isArray(weights) && isCommit(weights.revision) ? addressOf(hub, weights, '') : undefined;
  const known = new Map(Array.isArray(weights) ? [] : listing.map((file) => [addressOf(hub, weights, file.path), file]));
  const wanted = (url: string): Wanted => {
    const { size, lfs } = known.get(url) ?? {};
    const sha256 = /^[0-9a-f]{64}$/.test(lfs?.oid ?? '') ? lfs!.oid : undefined;
    return { url, size, sha256, immutable: commit !== undefined && url.startsWith(commit) };
  };

  let urls = Array.isArray(weights) ? weights : chosenOf(weights, listing).map((path) => addressOf(hub, weights, path));
  const first = urls[0]!;
  const folderLike = isSafetensors(fileName(first));
  if (fileName(first).endsWith('.index.json')) {
    const index = await files.whole(wanted(first), (bytes) => readJson(bytes, first));
    urls = shardsOf(index, fileName(first)).map((name) => new URL(name, first).href);
  }
  const parts = await Promise.all(urls.map(async (url): Promise<Part> => {
    const { size, sha256 } = wanted(url);
    const part: Part = {
      name: fileName(url),
      // Of a single file, the answer to its request tells.
      size: size ?? (urls.length > 1 || what === 'headers' ? await files.size(url) : undefined),
      sha256,
      open: () => files.open({ ...wanted(url), weights: urls.length, sha256: part.sha256 }),
      read: (from, to) => files.read(url, from, to),
      kept: () => files.kept(url),
    };
    return part;
  }));

  const source: Source = { parts, notes };
  if (folderLike) source.configJson = text(await files.whole(wanted(new URL('config.json', first).href)));
  if (what === 'headers') return source;
  const beside = new URL('tokenizer.json', first).href;
  const tokenizer = options.tokenizer ?? (folderLike || known.has(beside) ? beside : undefined);
  if (tokenizer instanceof Blob) source.tokenizerJson = await readAll(openBlob(tokenizer));
  else if (tokenizer !== undefined) {
    const isFallback = !folderLike && !(await files.isKept(tokenizer)) && (await Promise.all(urls.map((url) => files.isKept(url)))).every(Boolean);
    source.tokenizerJson = await tokenizerAt(wanted(tokenizer), isFallback ? files.hasty() : files, source, !folderLike, isFallback);
  }
  return source;
}

/** What the hub says of the files around the wanted one. Where one file is named, it can do without. */
async function listingFor(weights: HubWeights, files: Files, hub: string): Promise<HubFile[]> {
  if (weights.file === undefined) return list(hub, weights, undefined, files);
  try {
    return await list(hub, weights, weights.file.split('/').slice(0, -1).join('/'), files.hasty());
  } catch (error) {
    if (error instanceof HeliumError && ['network', 'corrupt'].includes(error.code)) return [];
    throw error;
  }
}

/** The paths of the wanted files: the first shard of a GGUF stands for all. */
function chosenOf({ repo, file, quant }: HubWeights, listing: HubFile[]): string[] {
  const paths = listing.map(({ path }) => path);
  if (file === undefined) return chooseQuant(paths, repo, quant);
  const shards = /-0*1-of-\d{5}\.gguf$/i.test(file) ? paths.filter((path) => unsharded(path) === unsharded(file)).sort() : [];
  return shards.length > 0 ? shards : [file];
}

/**
 * A GGUF has a vocabulary to fall back on where a server refuses the tokenizer; or, if that is missing of what is kept, because
 * one did, where none answers.
 */
async function tokenizerAt(
  wanted: Wanted, files: Files, { notes }: Source, hasVocabulary: boolean, worksWithout = false,
): Promise<Uint8Array | undefined> {
  try {
    return await files.whole(wanted);
  } catch (error) {
    const isRefused = error instanceof Refused && hasVocabulary && [401, 403, 404].includes(error.status);
    if (!(isRefused || (worksWithout && error instanceof HeliumError && error.code === 'network'))) throw error;
    notes.add(`tokenizer: ${error.message}. The weights' own vocabulary is used instead.`);
    return undefined;
  }
}

/** The shards that a `model.safetensors.index.json` names, in order of name. */
function shardsOf(index: unknown, name: string): string[] {
  const map = (index as { weight_map?: unknown }).weight_map;
  const names = typeof map === 'object' && map !== null ? [...new Set(Object.values(map))].sort() : [];
  if (names.length === 0 || !names.every((shard) => typeof shard === 'string' && /^[\w.-]+\.safetensors$/.test(shard))) {
    throw new HeliumError('corrupt', `${name}: expected "weight_map" from tensor names to .safetensors files beside it`);
  }
  return names as string[];
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
