// One HTTP exchange, or one slice of a Blob → bytes. What a server's refusal, silence or broken
// connection means is decided here; going on after one is download.ts's business.

import { HeliumError } from './errors.js';

/** An opened file: its size where known, and its bytes in order, each piece at most `PIECE` long. */
export interface OpenFile {
  name: string;
  size: number | undefined;
  /** Each is there until the next is asked for. */
  pieces: AsyncGenerator<Uint8Array, void>;
  /** Whether the bytes are already known to have the SHA-256 that is wanted. */
  verified: boolean;
  /** Bytes given out so far that came from the cache. */
  kept(): number;
  /** To be called once all was read and found good. */
  done(): Promise<void>;
  /** Lets go of the file before that; where its bytes were bad, deletes what is kept of it. */
  leave(bad: boolean): Promise<void>;
}

/** Where bytes come from: a server, this browser's storage, or the visitor's own files. */
export type Origin = 'network' | 'cache' | 'disk';

/** How to fetch. All but the headers and the meter are for tests. */
export interface Transfer {
  /** Sent to `origin` only. */
  headers: Record<string, string>;
  origin?: string;
  /** Called as bytes arrive, which is before they are delivered in order. */
  onBytes?: (count: number, from: Origin) => void;
  /** Bytes that are delivered, and kept, at a time. */
  chunk?: number;
  /** Chunks that a request asks for at most, where the server allows ranges. */
  run?: number;
  /** Requests at a time. */
  connections?: number;
  retries?: number;
  /** Before the first retry; it doubles with each. */
  backoffMs?: number;
  /** A connection that gives no byte for so long counts as dropped. */
  stallMs?: number;
}

/** The server's final no, with its status. Not worth a retry. */
export class Refused extends HeliumError {
  constructor(
    readonly status: number,
    url: string,
  ) {
    const advice =
      status === 401 || status === 403
        ? 'the file wants a login, or its licence accepted: pass an Authorization header in `headers`, or use a copy of your own'
        : status === 404 || status === 410
          ? 'there is no such file: check the address'
          : 'the server will not give the file';
    super('network', `${shortUrl(url)}: HTTP status ${status}; ${advice}`);
  }
}

/** A failure that another attempt may mend. */
export class Dropped extends Error {
  constructor(
    message: string,
    readonly waitMs?: number,
  ) {
    super(message);
  }
}

/** Bytes that one push may copy into WebAssembly memory. */
const PIECE = 4 << 20;
/** Bytes of a response that are read at once, at most. */
const READ = 512 << 10;
const RETRIES = 5;
const BACKOFF_MS = 500;
const STALL_MS = 30_000;
const LONGEST_WAIT_MS = 30_000;
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504]);

/** The last part of a URL's path: the file's name, for messages and for its extension. */
export function fileName(url: string): string {
  const name = new URL(url).pathname.split('/').pop() ?? '';
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

/** A URL for a message: without its query, where signatures and tokens live. */
export function shortUrl(url: string): string {
  const { protocol, origin, pathname } = new URL(url);
  return protocol === 'data:' || protocol === 'blob:' ? `a ${protocol} URL` : origin + pathname;
}

/** Bytes in portions that fit one push. */
export function* cut(bytes: Uint8Array): Generator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += PIECE) yield bytes.subarray(at, at + PIECE);
}

export function openBlob(blob: Blob, onBytes?: Transfer['onBytes']): OpenFile {
  async function* pieces(): AsyncGenerator<Uint8Array, void> {
    for (let at = 0; at < blob.size; at += PIECE) {
      yield await readSlice(blob, at, at + PIECE);
      onBytes?.(Math.min(PIECE, blob.size - at), 'disk');
    }
  }
  const nothing = async (): Promise<void> => undefined;
  return { name: blobName(blob), size: blob.size, pieces: pieces(), verified: false, kept: () => 0, done: nothing, leave: nothing };
}

export function blobName(blob: Blob): string {
  return 'name' in blob && typeof blob.name === 'string' ? blob.name : 'weights';
}

export async function readSlice(blob: Blob, from: number, to: number): Promise<Uint8Array> {
  try {
    return new Uint8Array(await blob.slice(from, to).arrayBuffer());
  } catch (cause) {
    throw new HeliumError('io', `${blobName(blob)}: could not be read at byte ${from}; was the file moved or changed? (${String(cause)})`);
  }
}

/** One HTTP response, being read. */
export class Connection {
  /** Into which the response is read, where the browser can: memory of its own for every piece costs more than the bytes. */
  private buffer = new ArrayBuffer(READ);

  private constructor(
    private readonly reader: ReadableStreamBYOBReader | ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>,
    private readonly abort: AbortController,
    private readonly stallMs: number,
    /** Bytes still to leave out, of a server that sends the file from its start whatever was asked for. */
    private skip: number,
    /** Where redirects led. */
    readonly url: string,
    /** Whether exactly the range that was asked for is sent. */
    readonly partial: boolean,
    /** Of the whole file, where told. */
    readonly size: number | undefined,
    /** Tells one version of the file from another, where the server says. */
    readonly version: string | undefined,
  ) {}

  /** Asks for the bytes from `from` up to `to`; for the file as a whole where both are absent. */
  static async open(url: string, transfer: Transfer, from?: number, to?: number): Promise<Connection> {
    const stallMs = transfer.stallMs ?? STALL_MS;
    const abort = new AbortController();
    // A plain range keeps a cross-origin request simple; `If-Range` would make it ask leave first, so
    // whether the file is still the same is read off the answer instead.
    const range: Record<string, string> = from === undefined ? {} : { Range: `bytes=${from}-${to === undefined ? '' : to - 1}` };
    const response = await within(stallMs, abort, request(url, transfer, range, abort.signal));
    try {
      // A part of a compressed body is no part of the file.
      if (response.status === 416 || (response.status === 206 && response.headers.has('content-encoding'))) throw new OutOfRange();
      if (PASSING.has(response.status)) throw new Dropped(`HTTP status ${response.status}`, retryAfter(response));
      if (!response.ok || response.body === null) throw new Refused(response.status, url);

      // Across origins any of these may be hidden, except the length and the date.
      const { headers } = response;
      const partial = response.status === 206;
      const [, start, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers.get('content-range') ?? '') ?? [];
      if (partial && start !== undefined && Number(start) !== from) throw new Dropped(`asked for byte ${from}, it sent byte ${start}`);
      const length = headers.get('content-length');
      let size = total === undefined ? undefined : Number(total);
      // A compressed body's length is not the file's. What is asked for as a whole may be compressed, which other origins hide.
      const mayBeCompressed = headers.has('content-encoding') || (from === undefined && response.type === 'cors');
      if (!partial && length !== null && !mayBeCompressed) size = Number(length);
      const version = headers.get('etag')?.replace(/^W\//, '') ?? headers.get('last-modified') ?? undefined;
      return new Connection(readerOf(response.body), abort, stallMs, partial ? 0 : (from ?? 0), response.url || url, partial, size, version);
    } catch (error) {
      abort.abort();
      throw error;
    }
  }

  /** The next bytes, which are there until the next call, or undefined at the end of the response. */
  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const { reader } = this;
      const reading = reader instanceof ReadableStreamDefaultReader ? reader.read() : reader.read(new Uint8Array(this.buffer));
      const { done, value } = await within(this.stallMs, this.abort, reading);
      if (done) return undefined;
      this.buffer = value.buffer;
      const skipped = Math.min(this.skip, value.length);
      this.skip -= skipped;
      if (value.length > skipped) return value.subarray(skipped);
    }
  }

  close(): void {
    this.abort.abort();
  }
}

function readerOf(body: ReadableStream<Uint8Array<ArrayBuffer>>): ReadableStreamBYOBReader | ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> {
  try {
    return body.getReader({ mode: 'byob' });
  } catch {
    return body.getReader(); // Safari before 26, for one
  }
}

/** There is no such range, or none that could be used. */
export class OutOfRange extends Error {}

async function request(url: string, transfer: Transfer, range: Record<string, string>, signal: AbortSignal): Promise<Response> {
  const given = transfer.origin !== undefined && new URL(url).origin === transfer.origin ? Object.entries(transfer.headers) : [];
  // Not through the HTTP cache: it would keep gigabytes a second time, and Chrome's makes requests for
  // one address wait for each other.
  const how: RequestInit = { signal, cache: 'no-store' };
  const login = given.filter(([name]) => name.toLowerCase() === 'authorization');
  if (login.length < given.length) {
    const response = await fetch(url, { ...how, headers: { ...Object.fromEntries(given), ...range }, redirect: 'manual' });
    if (response.type !== 'opaqueredirect' && !(response.status >= 301 && response.status <= 308)) return response;
  }
  // Of a redirect to another origin browsers take Authorization off by themselves, and nothing else.
  return fetch(url, { ...how, headers: { ...Object.fromEntries(login), ...range } });
}

/** In seconds or as a date, as milliseconds from now. */
function retryAfter(response: Response): number | undefined {
  const header = response.headers.get('retry-after');
  if (header === null) return undefined;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

/** Rejects, and gives the connection up, where nothing happens for `ms`. */
async function within<T>(ms: number, abort: AbortController, work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stalled = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Dropped(`no byte for ${ms / 1000} s`));
      abort.abort();
    }, ms);
  });
  try {
    return await Promise.race([work, stalled]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits before the next attempt, or throws where another would be in vain. */
export async function pauseAfter(error: unknown, failures: number, url: string, transfer: Transfer): Promise<void> {
  if (error instanceof HeliumError) throw error;
  const retries = transfer.retries ?? RETRIES;
  if (failures > retries) {
    throw new HeliumError('network', `${shortUrl(url)}: ${reason(error)}; gave up after ${retries} retries`, { cause: error });
  }
  const backoff = (transfer.backoffMs ?? BACKOFF_MS) * 2 ** (failures - 1);
  const wait = (error instanceof Dropped ? error.waitMs : undefined) ?? backoff;
  await new Promise((resolve) => setTimeout(resolve, Math.min(wait, LONGEST_WAIT_MS)));
}

export function reason(error: unknown): string {
  if (error instanceof Dropped) return error.message;
  // Browsers tell scripts no more than that (offline, unknown host, refused, no CORS headers).
  return 'the connection failed (offline, a wrong host, or a server that does not allow other sites to read it)';
}

export function changed(url: string, how: string): HeliumError {
  return new HeliumError('corrupt', `${shortUrl(url)}: the file changed on the server during the download (${how}): load again`);
}

/** The whole of a small file. `limit` keeps a wrong address (the weights, say) from filling the memory. */
export async function readAll(file: OpenFile, limit = 64 << 20): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of file.pieces) {
    length += piece.length;
    if (length > limit) throw new HeliumError('corrupt', `${file.name}: larger than ${limit >> 20} MiB, which such a file never is; is it the right one?`);
    pieces.push(piece.slice());
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

export function readJson(bytes: Uint8Array, url: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new HeliumError('corrupt', `${url.split('/').pop()}: expected JSON (${String(cause)})`, { cause });
  }
}
