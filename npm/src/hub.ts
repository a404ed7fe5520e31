// The model hub: its addresses, its listings of repositories, and the names that files have there.

import { HeliumError } from './errors.js';
import { readJson } from './fetch.js';
import type { Files } from './open.js';
import type { HubWeights } from './types.js';

/** Named here and nowhere else. */
export const HUB = 'https://huggingface.co';

/** A file as the hub lists it. Large ones come with their SHA-256. */
export interface HubFile {
  type: string;
  path: string;
  size?: number;
  lfs?: { oid: string };
}

/** A commit names one version for ever; a branch does not. */
export const isCommit = (revision: string | undefined): boolean => /^[0-9a-f]{40}$/.test(revision ?? '');

const encode = (path: string): string => path.split('/').map(encodeURIComponent).join('/');

export function addressOf(hub: string, { repo, revision = 'main' }: HubWeights, path: string): string {
  return `${hub}/${repo}/resolve/${encodeURIComponent(revision)}/${encode(path)}`;
}

/** What a model is called in this browser's storage. */
export function modelId(weights: string[] | HubWeights, hub = HUB): string {
  if (Array.isArray(weights)) return weights[0]!;
  if (weights.file !== undefined) return addressOf(hub, weights, weights.file);
  return `${addressOf(hub, weights, '')}?quant=${weights.quant.toUpperCase()}`;
}

/** The files of a repository, or of one folder in it. */
export async function list(hub: string, { repo, revision = 'main' }: HubWeights, folder: string | undefined, files: Files): Promise<HubFile[]> {
  const where = folder === undefined ? '?recursive=true' : folder && `/${encode(folder)}`;
  const url = `${hub}/api/models/${repo}/tree/${encodeURIComponent(revision)}${where}`;
  const entries = await files.whole({ url, immutable: isCommit(revision) }, (bytes) => {
    const json = readJson(bytes, url);
    if (!Array.isArray(json)) throw new HeliumError('network', `${repo}: the hub's listing is not a list of files`);
    return json as HubFile[];
  });
  return entries.filter((entry) => entry.type === 'file' && typeof entry.path === 'string');
}

/** The one GGUF (or its shards, in order) among `paths` whose name holds `quant` as a word of its own. */
export function chooseQuant(paths: string[], repo: string, quant: string): string[] {
  const ggufs = paths.filter((path) => /\.gguf$/i.test(path)).sort();
  const word = new RegExp(`(^|[-._/])${quant}([-./]|$)`, 'i');
  const matching = ggufs.filter((path) => word.test(path));
  const models = new Set(matching.map(unsharded));
  if (models.size === 1) return matching;
  throw new HeliumError(
    'invalid-argument',
    models.size === 0
      ? `quant: no GGUF file of ${repo} is named ${quant}; it has ${ggufs.join(', ') || 'none at all'}`
      : `quant: several files of ${repo} are named ${quant} (${[...models].join(', ')}): choose one with \`file\``,
  );
}

/** The name that all shards of a GGUF share. */
export function unsharded(path: string): string {
  return path.replace(/-\d{5}-of-\d{5}(?=\.gguf$)/i, '');
}
