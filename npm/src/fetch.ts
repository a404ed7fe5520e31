// A URL or a Blob → an ordered stream of its bytes. Downloads survive dropped, stalled and refused
// connections: they go on from the byte they had reached, or fail with a message that says why.
// Knows nothing of models; which files to open is source.ts's business.

import { HeliumError } from './errors.js';

/** An opened file: its size where known, and its bytes in order, each piece at most `PIECE` long. */
export interface OpenFile {
  name: string;
  size: number | undefined;
  pieces: AsyncGenerator<Uint8Array, void>;
}

/** How to fetch; the last three are for tests. */
export interface Transfer {
  /** Sent to `origin` only. */
  headers: Record<string, string>;
  origin?: string;
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
class Dropped extends Error {
  constructor(
    message: string,
    readonly waitMs?: number,
  ) {
    super(message);
  }
}

const PIECE = 4 << 20; // bytes: what one push may copy into WebAssembly memory
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
function shortUrl(url: string): string {
  const { protocol, origin, pathname } = new URL(url);
  return protocol === 'data:' || protocol === 'blob:' ? `a ${protocol} URL` : origin + pathname;
}

export function openBlob(blob: Blob): OpenFile {
  const name = 'name' in blob && typeof blob.name === 'string' ? blob.name : 'weights';
  async function* pieces(): AsyncGenerator<Uint8Array, void> {
    for (let at = 0; at < blob.size; at += PIECE) {
      try {
        yield new Uint8Array(await blob.slice(at, at + PIECE).arrayBuffer());
      } catch (cause) {
        throw new HeliumError('io', `${name}: could not be read at byte ${at}; was the file moved or changed? (${String(cause)})`);
      }
    }
  }
  return { name, size: blob.size, pieces: pieces() };
}

/** Starts a download; resolves once the server has agreed to give the file. */
export async function openUrl(url: string, transfer: Transfer): Promise<OpenFile> {
  let first: Connection | undefined;
  for (let failures = 0; first === undefined; ) {
    try {
      first = await Connection.open(url, transfer);
    } catch (error) {
      await pauseAfter(error, ++failures, url, transfer);
    }
  }
  const { size, etag } = first;

  async function* pieces(): AsyncGenerator<Uint8Array, void> {
    let connection = first;
    let received = 0;
    let failures = 0; // in a row, without a byte between them
    try {
      for (;;) {
        let piece: Uint8Array | undefined;
        try {
          connection ??= await Connection.open(url, transfer, { received, size, etag });
          piece = await connection.next();
          if (piece === undefined && size !== undefined && received < size) {
            throw new Dropped(`the connection ended after ${received} of ${size} bytes`);
          }
        } catch (error) {
          connection?.close();
          connection = undefined;
          if (received > 0 && size === undefined) {
            throw new HeliumError('network', `${shortUrl(url)}: ${reason(error)}; the server told no length to resume by: load again`);
          }
          await pauseAfter(error, ++failures, url, transfer);
          continue;
        }
        if (piece === undefined) return;
        failures = 0;
        received += piece.length;
        if (size !== undefined && received > size) throw changed(url, `it is longer than the ${size} bytes announced`);
        for (let at = 0; at < piece.length; at += PIECE) yield piece.subarray(at, at + PIECE);
      }
    } finally {
      connection?.close();
    }
  }
  return { name: fileName(url), size, pieces: pieces() };
}

/** Where an earlier connection to the same file broke off. */
interface Resume {
  received: number;
  size: number | undefined;
  etag: string | null;
}

/** One HTTP response being read. */
class Connection {
  private constructor(
    private readonly reader: ReadableStreamDefaultReader<Uint8Array>,
    private readonly abort: AbortController,
    private readonly stallMs: number,
    private skip: number,
    readonly size: number | undefined,
    readonly etag: string | null,
  ) {}

  static async open(url: string, transfer: Transfer, resume?: Resume): Promise<Connection> {
    const from = resume?.received ?? 0;
    const stallMs = transfer.stallMs ?? STALL_MS;
    const abort = new AbortController();
    // A plain `bytes=N-` keeps a cross-origin request simple; `If-Range` would make it ask leave first,
    // so whether the file is still the same is read off the answer instead.
    const headers = headersFor(url, transfer, from > 0 ? { Range: `bytes=${from}-` } : {});
    const response = await within(stallMs, abort, fetch(url, { headers, signal: abort.signal }));
    try {
      if (response.status === 416) throw changed(url, 'it is shorter than before');
      if (PASSING.has(response.status)) {
        const seconds = Number(response.headers.get('retry-after') ?? NaN);
        throw new Dropped(`HTTP status ${response.status}`, Number.isFinite(seconds) ? seconds * 1000 : undefined);
      }
      if (!response.ok || response.body === null) throw new Refused(response.status, url);

      // Across origins these headers may be hidden: then only what is seen is compared.
      const partial = response.status === 206;
      const length = response.headers.get('content-length');
      const etag = response.headers.get('etag');
      const start = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1];
      // A compressed body's length is not the file's.
      const size = length === null || response.headers.has('content-encoding') ? undefined : Number(length) + (partial ? from : 0);
      if (resume !== undefined) {
        if (partial && start !== undefined && Number(start) !== from) throw changed(url, `asked for byte ${from}, it sent byte ${start}`);
        if (size !== undefined && size !== resume.size) throw changed(url, `it had ${resume.size} bytes, now ${size}`);
        if (etag !== null && resume.etag !== null && etag !== resume.etag) throw changed(url, 'its ETag differs');
      }
      // A server without ranges sends the file from its start.
      const skip = partial ? 0 : from;
      return new Connection(response.body.getReader(), abort, stallMs, skip, size, etag);
    } catch (error) {
      abort.abort();
      throw error;
    }
  }

  /** The next bytes, or undefined at the end of the response. */
  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const { done, value } = await within(this.stallMs, this.abort, this.reader.read());
      if (done) return undefined;
      const skipped = Math.min(this.skip, value.length);
      this.skip -= skipped;
      if (value.length > skipped) return value.subarray(skipped);
    }
  }

  close(): void {
    this.abort.abort();
  }
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
async function pauseAfter(error: unknown, failures: number, url: string, transfer: Transfer): Promise<void> {
  if (error instanceof HeliumError) throw error;
  const retries = transfer.retries ?? RETRIES;
  if (failures > retries) {
    throw new HeliumError('network', `${shortUrl(url)}: ${reason(error)}; gave up after ${retries} retries`, { cause: error });
  }
  const backoff = (transfer.backoffMs ?? BACKOFF_MS) * 2 ** (failures - 1);
  const wait = (error instanceof Dropped ? error.waitMs : undefined) ?? backoff;
  await new Promise((resolve) => setTimeout(resolve, Math.min(wait, LONGEST_WAIT_MS)));
}

function reason(error: unknown): string {
  if (error instanceof Dropped) return error.message;
  // Browsers tell scripts no more than that (offline, unknown host, refused, no CORS headers).
  return 'the connection failed (offline, a wrong host, or a server that does not allow other sites to read it)';
}

function changed(url: string, how: string): HeliumError {
  return new HeliumError('corrupt', `${shortUrl(url)}: the file changed on the server during the download (${how}): load again`);
}

function headersFor(url: string, transfer: Transfer, more: Record<string, string> = {}): Record<string, string> {
  return transfer.origin !== undefined && new URL(url).origin === transfer.origin ? { ...transfer.headers, ...more } : more;
}

/** The whole of a small file. `limit` keeps a wrong address (the weights, say) from filling the memory. */
export async function readAll(file: OpenFile, limit = 64 << 20): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of file.pieces) {
    length += piece.length;
    if (length > limit) throw new HeliumError('corrupt', `${file.name}: larger than ${limit >> 20} MiB, which such a file never is; is it the right one?`);
    pieces.push(piece);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** The size of a file without fetching it, where the server says. */
export async function sizeOf(url: string, transfer: Transfer): Promise<number | undefined> {
  try {
    const response = await fetch(url, { method: 'HEAD', headers: headersFor(url, transfer) });
    const length = response.ok && !response.headers.has('content-encoding') ? response.headers.get('content-length') : null;
    return length === null ? undefined : Number(length);
  } catch {
    return undefined; // only the progress bar asks
  }
}
