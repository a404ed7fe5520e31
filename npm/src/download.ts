// A URL → the file's bytes in order, over several connections at a time where the server allows ranges.
// Downloads survive dropped, stalled and refused connections: each goes on from the byte it had
// reached. Memory is bounded: at most `connections` chunks are under way, and one is being delivered.

import { HeliumError } from './errors.js';
import { changed, Connection, Dropped, OutOfRange, pauseAfter, reason, Refused, shortUrl, type Transfer } from './fetch.js';

export const CHUNK = 4 << 20; // bytes, and what is kept at a time
/** Chunks of a request at most: long enough that its round trip does not count. */
const RUN = 4;
/** What a request should take, so that on a slow line the first bytes in order come soon. */
const REQUEST_MS = 2000;
const CONNECTIONS = 4; // browsers allow six to a host

/** A file on a server: its size and version, and whether parts of it can be asked for. */
export class Remote {
  /** Where redirects led: a signed address, for one, that serves until it expires. */
  private direct: string;
  private readonly open = new Set<Connection>();
  private closed = false;
  /** Chunks that the next request asks for, by how fast those before came: at first one, as the first did. */
  private run = 1;

  private constructor(
    readonly url: string,
    private readonly transfer: Transfer,
    readonly size: number | undefined,
    readonly version: string | undefined,
    private readonly ranges: boolean,
    /** The answer to the first request, already open. */
    private first: Connection | undefined,
  ) {
    this.direct = first?.url ?? url;
    if (first) this.open.add(first);
  }

  /**
   * Asks for the chunk at `from`; resolves once the server has agreed. `size` is the file's where it is
   * known from elsewhere, since servers may hide it. Where not `ranged`, one answer brings the file, in
   * which servers may compress it.
   */
  static async open(url: string, transfer: Transfer, from = 0, size?: number, ranged = true): Promise<Remote> {
    ranged ||= from > 0;
    for (let failures = 0; ; ) {
      let connection: Connection | undefined;
      try {
        connection = await (ranged ? Connection.open(url, transfer, from, from + chunkOf(transfer)) : Connection.open(url, transfer));
        const whole = connection.size ?? size;
        if (connection.partial && whole === undefined) {
          // A range of a file without a known end is of no use.
          connection.close();
          ranged = false;
          continue;
        }
        return new Remote(url, transfer, whole, connection.version, connection.partial, connection);
      } catch (error) {
        connection?.close();
        if (error instanceof OutOfRange && ranged && from === 0) ranged = false; // an empty file
        else if (error instanceof OutOfRange) throw changed(url, 'it is shorter than before');
        else await pauseAfter(error, ++failures, url, transfer);
      }
    }
  }

  /** The file from `from` on, in chunks, each of which is there until the next is asked for; all are whole except the last. */
  async *chunks(from = 0): AsyncGenerator<Uint8Array, void> {
    const chunk = chunkOf(this.transfer);
    try {
      if (!this.ranges || this.size === undefined) {
        yield* joined(this.span(from, this.size), chunk);
        return;
      }
      const { size } = this;
      const coming: { next: Promise<IteratorResult<Uint8Array, void>>; isLast: boolean }[] = [];
      const free: Uint8Array[] = [];
      let begin = from;
      const ask = (): void => {
        const to = Math.min(begin + chunk * this.run, size);
        const chunks = this.filled(begin, to, chunk, free);
        for (; begin < to; begin += chunk) {
          const next = chunks.next(); // all at once, so that it reads on while those before are in use
          next.catch(() => undefined); // looked at in its turn
          coming.push({ next, isLast: begin + chunk >= to });
        }
        chunks.next().catch(() => undefined); // to its end, which lets go of the connection
      };
      for (let nth = 0; nth < (this.transfer.connections ?? CONNECTIONS); nth++) ask();
      for (let head = coming.shift(); head !== undefined; head = coming.shift()) {
        const { value: bytes } = await head.next;
        if (!bytes) return;
        if (head.isLast) ask();
        yield bytes;
        free.push(bytes);
      }
    } finally {
      this.close();
    }
  }

  /** That part of the file alone. */
  static async read(url: string, transfer: Transfer, from: number, to: number): Promise<Uint8Array> {
    const remote = await Remote.open(url, { ...transfer, chunk: to - from }, from);
    try {
      const end = Math.min(to, remote.size ?? to);
      return (await remote.filled(from, end, end - from).next()).value ?? new Uint8Array();
    } finally {
      remote.close();
    }
  }

  close(): void {
    this.closed = true;
    for (const connection of this.open) connection.close();
    this.open.clear();
  }

  /** That part of the file by one request, in chunks, each in what is `free` if it has that size. */
  private async *filled(from: number, to: number, chunk: number, free: Uint8Array[] = []): AsyncGenerator<Uint8Array, void> {
    const begin = performance.now();
    const room = (): Uint8Array => {
      const length = Math.min(chunk, to - at);
      const bytes = free.pop();
      return bytes?.length === length ? bytes : new Uint8Array(length);
    };
    let at = from; // where `bytes` begins
    let bytes = room();
    let filled = 0;
    for await (let piece of this.span(from, to)) {
      while (piece.length > 0) {
        const part = piece.subarray(0, bytes.length - filled);
        bytes.set(part, filled);
        filled += part.length;
        piece = piece.subarray(part.length);
        if (filled < bytes.length) continue;
        yield bytes;
        at += filled;
        filled = 0;
        if (at < to) bytes = room();
      }
    }
    const speed = (to - from) / chunk / Math.max(performance.now() - begin, 1);
    this.run = Math.min(Math.max(Math.floor(speed * REQUEST_MS), 1), this.transfer.run ?? RUN);
  }

  /** The bytes from `from` up to `to`, as they arrive; without `to`, up to where the response ends. */
  private async *span(from: number, to: number | undefined): AsyncGenerator<Uint8Array, void> {
    let at = from;
    let failures = 0; // in a row, without a byte between them
    let connection = this.first; // the chunk that was asked for first is the first to be read
    this.first = undefined;
    try {
      while (to === undefined || at < to) {
        let piece: Uint8Array | undefined;
        try {
          connection ??= await this.connect(at, to);
          piece = await connection.next();
          if (piece === undefined && to !== undefined) throw new Dropped(`the connection ended after ${at} of ${this.size} bytes`);
        } catch (error) {
          this.forget(connection);
          connection = undefined;
          if (this.closed) return;
          if (at > 0 && this.size === undefined) {
            throw new HeliumError('network', `${shortUrl(this.url)}: ${reason(error)}; the server told no length to resume by: load again`);
          }
          await pauseAfter(error, ++failures, this.url, this.transfer);
          if (this.closed) return;
          continue;
        }
        if (piece === undefined) return;
        failures = 0;
        if (to !== undefined && piece.length > to - at) {
          if (to === this.size) throw changed(this.url, `it is longer than the ${to} bytes announced`);
          piece = piece.subarray(0, to - at); // of a server that sends all there is, whatever was asked for
        }
        at += piece.length;
        this.transfer.onBytes?.(piece.length, 'network');
        yield piece;
      }
    } finally {
      this.forget(connection);
    }
  }

  /** A further connection, to the same version of the file. */
  private async connect(from: number, to: number | undefined): Promise<Connection> {
    const { url, size, version, direct } = this;
    let connection: Connection;
    try {
      connection = await Connection.open(direct, this.transfer, from, this.ranges ? to : undefined);
    } catch (error) {
      if (error instanceof OutOfRange) throw changed(url, 'it is shorter than before');
      if (error instanceof Refused) {
        // It was given before, so a signed address may have expired: the file's own leads to a new one.
        if (this.direct === direct) this.direct = url;
        throw new Dropped(error.message, direct === url ? undefined : 0);
      }
      throw error;
    }
    const found = connection.size;
    if (found !== undefined && size !== undefined && found !== size) {
      connection.close();
      throw changed(url, `it had ${size} bytes, now ${found}`);
    }
    if (connection.version !== undefined && version !== undefined && connection.version !== version) {
      connection.close();
      throw changed(url, 'its ETag differs');
    }
    if (this.closed) connection.close();
    this.direct = connection.url;
    this.open.add(connection);
    return connection;
  }

  private forget(connection: Connection | undefined): void {
    if (connection === undefined) return;
    connection.close();
    this.open.delete(connection);
  }
}

export function chunkOf(transfer: Transfer): number {
  return transfer.chunk ?? CHUNK;
}

/** Pieces of any size as chunks of `length`. */
async function* joined(pieces: AsyncGenerator<Uint8Array, void>, length: number): AsyncGenerator<Uint8Array, void> {
  const chunk = new Uint8Array(length);
  let filled = 0;
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length; ) {
      const count = Math.min(length - filled, piece.length - at);
      chunk.set(piece.subarray(at, at + count), filled);
      filled += count;
      at += count;
      if (filled < length) continue;
      yield chunk;
      filled = 0;
    }
  }
  if (filled > 0) yield chunk.subarray(0, filled);
}

/** The size and version of a file, from an answer whose body is not read. */
export async function lookUp(url: string, transfer: Transfer, ranged = true): Promise<Pick<Remote, 'size' | 'version'>> {
  const remote = await Remote.open(url, { ...transfer, chunk: 1 }, 0, undefined, ranged);
  remote.close();
  return remote;
}
