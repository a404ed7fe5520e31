// Files that are kept in this browser: the origin private file system (OPFS), one folder a model, in it
// `KEY.data` and, beside it, `KEY.json`: the record of what is known to be good of it. A record names
// the SHA-256 of every chunk, is replaced as a whole, and only after the chunks have reached the disk;
// so whatever crashes, is cut off or flips a bit, only bytes that were received are ever given out.
//
// One tab at a time writes a file, and several read a complete one: each file has a Web Lock.
// Listing and deleting work in a page too; the rest is for the worker.

import { HeliumError } from './errors.js';
import type { CachedModel } from './types.js';

const FOLDER = 'helium-webgpu';
const SCHEMA = 1;
/** A lock that is not free after so long is another tab's; less, and a load that was just stopped would still hold it. */
const LOCK_MS = 1500;
/** Between two records: what an end without notice may cost. */
const RECORD_MS = 1000;
const NOT_KEPT = 'cache: the model is not kept for the next visit';

/** What is known of a kept file. */
export interface FileRecord {
  schema: number;
  /** Which model it belongs to: see `modelId` in source.ts. */
  model: string;
  url: string;
  name: string;
  /** Of how many files of weights it is one; 0 for the small ones beside them. */
  weights: number;
  /** Of the file; undefined while it is still being received, of a server that does not tell. */
  size?: number;
  /** The server's ETag, or else its date. */
  version?: string;
  /** The SHA-256 that the hub or the caller gave for it. */
  sha256?: string;
  /** Whether it was found to have that. */
  verified?: boolean;
  chunk: number;
  /** The SHA-256 of each chunk that is there. */
  digests: string[];
  lastUsed: number;
}

/** Bytes that are kept, from the file's beginning. */
export function keptBytes({ size, chunk, digests }: FileRecord): number {
  return Math.min(digests.length * chunk, size ?? Infinity);
}

export const isComplete = (record: FileRecord): boolean => keptBytes(record) === record.size;

/** Of lib.webworker, which cannot be had together with lib.dom. */
interface SyncAccessHandle {
  read(buffer: Uint8Array, options: { at: number }): number;
  write(buffer: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

/** The folder of one model. */
export class ModelFolder {
  private constructor(
    readonly model: string,
    /** Where to write what did not go as asked, for `info.notes`. */
    readonly notes: Set<string>,
    readonly folder: FileSystemDirectoryHandle,
    private readonly key: string,
  ) {}

  /** Undefined, with a note, where this browser keeps no files; or where there is none and it is not to be made. */
  static async open(model: string, notes: Set<string>, create: boolean): Promise<ModelFolder | undefined> {
    try {
      if (!navigator.locks) throw new DOMException('no Web Locks', 'NotSupportedError');
      const root = await navigator.storage.getDirectory();
      const key = await keyOf(model);
      const folder = await (await root.getDirectoryHandle(FOLDER, { create })).getDirectoryHandle(key, { create });
      return new ModelFolder(model, notes, folder, key);
    } catch (error) {
      if (create) notes.add(`${NOT_KEPT}: this browser gives no storage here (${nameOf(error)}); a private window may be why`);
      return undefined;
    }
  }

  /** What is kept of a file, without laying claim to it. */
  async recordOf(url: string): Promise<FileRecord | undefined> {
    return readRecord(this.folder, await keyOf(url));
  }

  /** Bytes of a file, where all of them are kept. */
  async read(url: string, from: number, to: number): Promise<Uint8Array | undefined> {
    const record = await this.recordOf(url);
    if (!record || keptBytes(record) < Math.min(to, record.size!)) return undefined;
    try {
      const file = await (await this.folder.getFileHandle(`${await keyOf(url)}.data`)).getFile();
      return new Uint8Array(await file.slice(from, to).arrayBuffer());
    } catch {
      return undefined; // being written, or gone
    }
  }

  /** Lays claim to a file: to read it if it is complete, else to write it. Undefined where another tab has it. */
  async claim(url: string): Promise<Slot | undefined> {
    const key = await keyOf(url);
    const slot = new Slot(this, `${FOLDER}/${this.key}/${key}`, key);
    return (await slot.claim()) ? slot : undefined;
  }
}

/** A file of a model's folder, while it is held. */
export class Slot {
  /** What is kept of the file. */
  record: FileRecord | undefined;
  private mode: LockMode | undefined;
  private release: (() => void) | undefined;
  private handle: SyncAccessHandle | undefined;
  private file: File | undefined;
  /** When the record was last written, and how many chunks it has there. */
  private recorded = { at: -Infinity, chunks: 0 };
  private timer: ReturnType<typeof setTimeout> | undefined;
  private saving: Promise<void> = Promise.resolve();

  constructor(
    private readonly owner: ModelFolder,
    private readonly lock: string,
    private readonly key: string,
  ) {}

  async claim(): Promise<boolean> {
    const before = await readRecord(this.owner.folder, this.key);
    if (before && isComplete(before) && (await this.take('shared'))) {
      if (this.record && isComplete(this.record)) return true;
      this.close(); // dropped meanwhile
    }
    return this.own();
  }

  /** The `nth` kept chunk, or undefined where its bytes are no longer what they were. */
  async read(nth: number): Promise<Uint8Array | undefined> {
    const { chunk, digests } = this.record!;
    const from = nth * chunk;
    const bytes = new Uint8Array(Math.min(chunk, this.record!.size! - from));
    try {
      if (this.handle) {
        if (this.handle.read(bytes, { at: from }) !== bytes.length) return undefined;
      } else {
        // Sync handles are exclusive, so what several tabs may read is read by slices.
        this.file ??= await (await this.owner.folder.getFileHandle(`${this.key}.data`)).getFile();
        bytes.set(new Uint8Array(await this.file.slice(from, from + bytes.length).arrayBuffer()));
        if (this.file.size < from + bytes.length) return undefined;
      }
    } catch {
      return undefined; // deleted by the visitor, or unreadable: as good as absent
    }
    return (await digest(bytes)) === digests[nth] ? bytes : undefined;
  }

  /** Makes ready to append after the first `count` chunks of `record`. False, with a note, where that cannot be. */
  async write(record: FileRecord, count: number): Promise<boolean> {
    try {
      if (!(await this.own())) return false;
      this.record = { ...record, digests: record.digests.slice(0, count) };
      const needed = (record.size ?? 0) - keptBytes(this.record);
      const { quota, usage } = await navigator.storage.estimate();
      if (quota !== undefined && usage !== undefined && needed > quota - usage) {
        return this.giveUp(`this browser's storage has ${megabytes(quota - usage)} left, of ${megabytes(needed)} needed`);
      }
      this.handle ??= await openHandle(this.owner.folder, `${this.key}.data`);
      this.handle.truncate(count * record.chunk);
      return true;
    } catch (error) {
      return this.giveUp(failure(error));
    }
  }

  /** Keeps the next chunk; where it cannot, what is kept already stays, with a note. */
  async append(bytes: Uint8Array): Promise<void> {
    if (!this.handle || !this.record) return;
    try {
      const at = this.record.digests.length * this.record.chunk;
      if (this.handle.write(bytes, { at }) !== bytes.length) throw new DOMException('', 'QuotaExceededError');
      this.record.digests.push(await digest(bytes));
      const wait = this.recorded.at + RECORD_MS - performance.now();
      if (wait <= 0) await this.save();
      else this.timer ??= setTimeout(() => this.save().catch(() => undefined), wait);
    } catch (error) {
      await this.giveUp(failure(error));
    }
  }

  /** The file is whole and good: says so in its record, and lets go of it. */
  async finish(changes: Partial<FileRecord>): Promise<void> {
    try {
      if (this.record && (this.mode === 'exclusive' || this.record.weights > 0)) {
        Object.assign(this.record, changes, { lastUsed: Date.now() });
        await this.save();
      }
      this.close();
    } catch (error) {
      // Without a handle nothing was to be kept but when it was used.
      if (this.handle) await this.giveUp(failure(error));
      else this.close();
    }
  }

  /** Of a file that was good once, all after the first `count` chunks is in doubt, and so is the whole. */
  async doubt(count: number): Promise<void> {
    if (!(await this.own()) || !this.record) return;
    this.record = { ...this.record, verified: false, digests: this.record.digests.slice(0, count) };
    await this.save().catch(() => this.clear());
  }

  /** Deletes the file, for it is not what it should be. It stays claimed. */
  async clear(): Promise<void> {
    if (!(await this.own())) return;
    this.record = undefined;
    this.handle?.close();
    this.handle = undefined;
    await this.saving.catch(() => undefined);
    try {
      await remove(this.owner.folder, this.key);
    } catch (error) {
      this.owner.notes.add(`cache: ${failure(error)} to delete what was kept of the model`);
    }
  }

  /** Lets go of the file; what has arrived of it stays. */
  async leave(): Promise<void> {
    if (this.handle && this.record?.digests.length === 0) await this.clear();
    else if (this.handle) await this.save().catch(() => undefined);
    this.close();
  }

  private close(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.handle?.close();
    this.handle = undefined;
    this.file = undefined;
    this.release?.();
    this.release = this.mode = undefined;
  }

  /** Makes the claim exclusive, as writing needs. */
  private async own(): Promise<boolean> {
    if (this.mode === 'exclusive') return true;
    this.close();
    if (await this.take('exclusive')) return true;
    this.record = undefined;
    this.owner.notes.add(`${NOT_KEPT}: another tab is using it at the moment`);
    return false;
  }

  private async take(mode: LockMode): Promise<boolean> {
    this.release = await hold(this.lock, mode);
    if (!this.release) return false;
    this.mode = mode;
    this.record = await readRecord(this.owner.folder, this.key);
    this.recorded.chunks = this.record?.digests.length ?? 0;
    return true;
  }

  /** Data first, then the record that vouches for it. */
  private save(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.saving = this.saving.catch(() => undefined).then(async () => {
      const { record } = this;
      if (record?.size === undefined) return; // not before its end is known
      const chunks = record.digests.length;
      this.handle?.flush();
      await writeRecord(this.owner.folder, this.key, record);
      this.recorded = { at: performance.now(), chunks };
    });
    return this.saving;
  }

  /** Keeps no more than is recorded. */
  private async giveUp(why: string): Promise<false> {
    this.owner.notes.add(`${NOT_KEPT}: ${why}`);
    if (this.handle) await this.save().catch(() => undefined);
    const { chunks } = this.recorded;
    if (chunks === 0) await this.clear();
    else if (this.record) this.handle?.truncate(Math.min(chunks, this.record.digests.length) * this.record.chunk);
    this.record = undefined;
    this.close();
    return false;
  }
}

// --- listing and deleting

/** Every model that is kept here, or the one of this id. */
export async function listModels(id?: string): Promise<CachedModel[]> {
  const models: CachedModel[] = [];
  for (const [key, folder] of await folders(id)) {
    const records = await recordsOf(folder);
    await removeStray(key, folder);
    const weights = records.filter((record) => record.weights > 0);
    if (weights.length === 0) continue;
    const first = weights.sort((a, b) => (a.name < b.name ? -1 : 1))[0]!;
    models.push({
      id: first.model,
      name: first.name,
      url: first.url,
      bytes: records.reduce((total, record) => total + keptBytes(record), 0),
      complete: weights.length >= first.weights && weights.every(isComplete),
      lastUsed: Math.max(...weights.map((record) => record.lastUsed)),
    });
  }
  return models.sort((a, b) => b.lastUsed - a.lastUsed);
}

/** Deletes data that nothing vouches for: of a download that ended before its first record. */
async function removeStray(key: string, folder: FileSystemDirectoryHandle): Promise<void> {
  for (const file of await filesOf(folder)) {
    if (await readRecord(folder, file)) continue;
    // Unless it is being written: then a record may have come by now.
    await navigator.locks?.request(`${FOLDER}/${key}/${file}`, { ifAvailable: true }, async (lock) => {
      if (lock && !(await readRecord(folder, file))) await remove(folder, file).catch(() => undefined);
    });
  }
}

/** Deletes the model of this id, or all of them, except what a load is using at this moment. */
export async function deleteModels(id?: string): Promise<void> {
  const busy: string[] = [];
  for (const [key, folder, parent] of await folders(id)) {
    const held: (() => void)[] = [];
    try {
      let free = true;
      for (const file of await filesOf(folder)) {
        const release = await hold(`${FOLDER}/${key}/${file}`, 'exclusive');
        if (release) held.push(release);
        else free = false;
      }
      if (free) await parent.removeEntry(key, { recursive: true });
      else busy.push((await recordsOf(folder)).find((record) => record.weights > 0)?.name ?? key);
    } finally {
      for (const release of held) release();
    }
  }
  if (busy.length > 0) throw new HeliumError('io', `${busy.join(', ')}: in use by a load under way, here or in another tab: stop it, then delete`);
}

type Folder = [key: string, folder: FileSystemDirectoryHandle, parent: FileSystemDirectoryHandle];

async function folders(id: string | undefined): Promise<Folder[]> {
  let parent: FileSystemDirectoryHandle;
  try {
    parent = await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER);
  } catch {
    return []; // nothing was ever kept, or nothing can be
  }
  const wanted = id === undefined ? undefined : await keyOf(id);
  const found: Folder[] = [];
  for await (const [key, handle] of parent.entries()) {
    if (handle.kind === 'directory' && (wanted === undefined || key === wanted)) found.push([key, handle as FileSystemDirectoryHandle, parent]);
  }
  return found;
}

/** The keys of the files in a model's folder. */
async function filesOf(folder: FileSystemDirectoryHandle): Promise<Set<string>> {
  const keys = new Set<string>();
  for await (const [name] of folder.entries()) keys.add(name.split('.')[0]!);
  return keys;
}

async function recordsOf(folder: FileSystemDirectoryHandle): Promise<FileRecord[]> {
  const records: FileRecord[] = [];
  for (const key of await filesOf(folder)) {
    const record = await readRecord(folder, key);
    if (record) records.push(record);
  }
  return records;
}

// --- files and locks

async function readRecord(folder: FileSystemDirectoryHandle, key: string): Promise<FileRecord | undefined> {
  try {
    const file = await (await folder.getFileHandle(`${key}.json`)).getFile();
    const record = JSON.parse(await file.text()) as FileRecord;
    return record.schema === SCHEMA ? record : undefined;
  } catch {
    return undefined; // none, or not one of ours
  }
}

export function newRecord(fields: Omit<FileRecord, 'schema' | 'digests' | 'lastUsed'>): FileRecord {
  return { schema: SCHEMA, ...fields, digests: [], lastUsed: Date.now() };
}

/** A writable stream replaces the file only when it is closed, so that there is never half a record. */
async function writeRecord(folder: FileSystemDirectoryHandle, key: string, record: FileRecord): Promise<void> {
  const writable = await (await folder.getFileHandle(`${key}.json`, { create: true })).createWritable();
  await writable.write(JSON.stringify(record));
  await writable.close();
}

async function openHandle(folder: FileSystemDirectoryHandle, name: string): Promise<SyncAccessHandle> {
  const file = (await folder.getFileHandle(name, { create: true })) as FileSystemFileHandle & {
    createSyncAccessHandle(): Promise<SyncAccessHandle>;
  };
  for (let tries = 1; ; tries++) {
    try {
      return await file.createSyncAccessHandle();
    } catch (error) {
      // A worker that was just ended may hold it a moment longer than its lock.
      if (nameOf(error) !== 'NoModificationAllowedError' || tries === 10) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** The record goes first: without it the data counts for nothing. */
async function remove(folder: FileSystemDirectoryHandle, key: string): Promise<void> {
  for (const name of [`${key}.json`, `${key}.data`]) {
    await folder.removeEntry(name).catch((error: unknown) => {
      if (nameOf(error) !== 'NotFoundError') throw error;
    });
  }
}

/** Takes a lock, and gives the function that lets it go. Ended workers let go by themselves. */
function hold(name: string, mode: LockMode): Promise<(() => void) | undefined> {
  return new Promise((resolve) => {
    navigator.locks
      .request(name, { mode, signal: AbortSignal.timeout(LOCK_MS) }, () => new Promise<void>((release) => resolve(release)))
      .catch(() => resolve(undefined));
  });
}

async function digest(bytes: Uint8Array): Promise<string> {
  return hex(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>));
}

function hex(bytes: ArrayBuffer): string {
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** A name for a file or a folder, of a text of any length. */
async function keyOf(text: string): Promise<string> {
  return (await digest(new TextEncoder().encode(text))).slice(0, 32);
}

function failure(error: unknown): string {
  const name = nameOf(error);
  return name === 'QuotaExceededError' ? "this browser's storage is full" : `this browser's storage refused (${name})`;
}

function nameOf(error: unknown): string {
  return (error as Partial<Error> | undefined)?.name ?? String(error);
}

const megabytes = (bytes: number): string => `${Math.ceil(bytes / 1e6)} MB`;
