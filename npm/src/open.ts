// A URL → its bytes in order: what this browser keeps of the file first, the rest from the network, and
// kept on the way. Decides when a kept file may be trusted, and when it has to go.

import { isComplete, keptBytes, newRecord, type FileRecord, type ModelFolder } from './cache.js';
import { chunkOf, lookUp, Remote } from './download.js';
import { HeliumError } from './errors.js';
import { changed, cut, fileName, readAll, Refused, type OpenFile, type Transfer } from './fetch.js';

/** What is known of a file before it is opened. */
export interface Wanted {
  url: string;
  /** Of how many files of weights it is one. */
  weights?: number;
  size?: number | undefined;
  sha256?: string | undefined;
  /** The address names one version for ever. */
  immutable?: boolean;
}

/** Bytes from the cache turned out to be bad, and are kept no more; the network may have better ones. */
export class StaleCache extends HeliumError {}

/** How long to wait for an answer that only tells whether a complete file is still the newest. */
const REVALIDATE_MS = 5000;

/** How the files of one model are reached: over the network, through what this browser keeps of them. */
export class Files {
  /** Without a folder, nothing is kept. */
  constructor(
    private readonly transfer: Transfer,
    private readonly folder?: ModelFolder,
    /** Origins that did not answer whether a kept file is the newest, and are not asked again. */
    private readonly silent = new Set<string>(),
  ) {}

  /** The same, for what can be done without: soon given up. */
  hasty(): Files {
    return new Files({ ...this.transfer, retries: 1 }, this.folder, this.silent);
  }

  /** Resolves once the file is found here, or the server has agreed to give it. */
  open(wanted: Wanted): Promise<OpenFile> {
    const { onBytes, ...quietly } = this.transfer;
    return openKept(wanted, wanted.weights ? this.transfer : quietly, this.folder, this.silent);
  }

  /** The whole of a small file, which is kept if it can be read as what it should be. */
  async whole<T = Uint8Array>(wanted: Wanted, read: (bytes: Uint8Array) => T = (bytes) => bytes as T): Promise<T> {
    const file = await this.open(wanted);
    let isBad = false;
    try {
      const bytes = await readAll(file);
      isBad = true;
      const value = read(bytes);
      isBad = false;
      await file.done();
      return value;
    } finally {
      await file.leave(isBad);
    }
  }

  /** The size of a file, where it is kept or the server says. */
  async size(url: string): Promise<number | undefined> {
    const record = await this.folder?.recordOf(url);
    if (record?.size !== undefined) return record.size;
    return (await lookUp(url, this.transfer).catch(() => undefined))?.size;
  }

  /** Bytes that are kept of a file. */
  async kept(url: string): Promise<number> {
    const record = await this.folder?.recordOf(url);
    return record ? keptBytes(record) : 0;
  }

  /** Whether all of a file is kept. */
  async isKept(url: string): Promise<boolean> {
    const record = await this.folder?.recordOf(url);
    return record !== undefined && isComplete(record);
  }

  /** Some bytes of a file; fewer at its end. */
  async read(url: string, from: number, to: number): Promise<Uint8Array> {
    const bytes = await this.folder?.read(url, from, to);
    return bytes ?? Remote.read(url, this.transfer, from, to);
  }
}

/** Whether a kept file is the one that is wanted, and the one that the server has. */
async function isCurrent(record: FileRecord, wanted: Wanted, transfer: Transfer, silent: Set<string>): Promise<boolean> {
  if (record.size === undefined) return false;
  if (wanted.size !== undefined && wanted.size !== record.size) return false;
  if (wanted.sha256 !== undefined && record.sha256 !== undefined) return wanted.sha256 === record.sha256;
  if (wanted.immutable) return true;
  const complete = isComplete(record);
  const { origin } = new URL(wanted.url);
  if (complete && silent.has(origin)) return true;
  const patience = complete ? { retries: 0, stallMs: Math.min(transfer.stallMs ?? Infinity, REVALIDATE_MS) } : {};
  try {
    return agrees(record, await lookUp(wanted.url, { ...transfer, ...patience }, record.weights > 0), wanted);
  } catch (error) {
    if (!(complete && error instanceof HeliumError && error.code === 'network')) throw error;
    // Offline, or refused now: a complete file is as good as it was.
    if (!(error instanceof Refused)) silent.add(origin);
    return true;
  }
}

/** Whether the server's file is the kept one: by its SHA-256, else by its version; by its size alone only where all of it is kept. */
function agrees(record: FileRecord, found: Pick<Remote, 'size' | 'version'>, { sha256, immutable }: Wanted): boolean {
  if (found.size !== undefined && found.size !== record.size) return false;
  if (immutable || (sha256 !== undefined && sha256 === record.sha256)) return true;
  if (found.version !== undefined && record.version !== undefined) return found.version === record.version;
  return isComplete(record) && found.size !== undefined;
}

/** Resolves once the file is found here, or the server has agreed to give it. */
async function openKept(wanted: Wanted, transfer: Transfer, folder: ModelFolder | undefined, silent: Set<string>): Promise<OpenFile> {
  const { url, weights = 0, sha256 } = wanted;
  const name = fileName(url);
  const slot = /^https?:/.test(url) ? await folder?.claim(url) : undefined;
  try {
    let remote: Remote | undefined;
    if (!slot?.record || !(await isCurrent(slot.record, wanted, transfer, silent))) {
      // What is kept goes only once there is something in its place.
      remote = await Remote.open(url, transfer, 0, wanted.size, weights > 0);
      if (slot?.record) await slot.clear();
    }
    const record = slot?.record;
    const verified = record?.verified === true && isComplete(record) && record.sha256 === sha256;
    const size = record?.size ?? remote?.size;
    let kept = 0;

    async function* pieces(): AsyncGenerator<Uint8Array, void> {
      let count = 0;
      let next = record && slot!.read(0); // one ahead of what the engine works on
      for (; record && count < record.digests.length; count++) {
        const bytes = await next;
        if (!bytes && verified) {
          // Nothing vouches for the whole any more: it is read once more, and hashed.
          await slot!.doubt(count);
          throw new StaleCache('corrupt', `${name}: a part of what is kept was damaged`);
        }
        if (!bytes) break; // damaged: from here on the network has it
        if (count + 1 < record.digests.length) next = slot!.read(count + 1);
        kept += bytes.length;
        transfer.onBytes?.(bytes.length, 'cache');
        yield* cut(bytes);
      }
      if (record && kept === size) return;
      if (record) {
        remote = await Remote.open(url, { ...transfer, chunk: record.chunk }, kept, size);
        if (!agrees(record, remote, wanted)) throw changed(url, 'it is another one than the part kept here');
      }
      const { version } = remote!;
      const begun = record ?? newRecord({
        model: folder?.model ?? '', url, name, weights, chunk: chunkOf(transfer),
        ...(size !== undefined && { size }), ...(version !== undefined && { version }), ...(sha256 !== undefined && { sha256 }),
      });
      await slot?.write(begun, count);
      let length = kept;
      for await (const chunk of remote!.chunks(kept)) {
        await slot?.append(chunk);
        length += chunk.length;
        yield* cut(chunk);
      }
      if (slot?.record) slot.record.size ??= length;
    }
    return {
      name,
      size,
      pieces: pieces(),
      verified,
      kept: () => kept,
      done: async () => slot?.finish(sha256 === undefined ? {} : { sha256, verified: true }),
      leave: async (bad) => {
        remote?.close();
        if (bad) await slot?.clear();
        await slot?.leave();
      },
    };
  } catch (error) {
    await slot?.leave();
    throw error;
  }
}
