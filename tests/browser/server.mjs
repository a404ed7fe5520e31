// A static file server for the page, the tests and `./build.sh serve`: byte ranges, entity tags, the MIME
// types a module page needs. Folders are mounted under paths; nothing outside them is served.
//
//     node tests/browser/server.mjs --port 8000 /=target/site /models/=…/models

import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize, sep } from 'node:path';
import { pathToFileURL } from 'node:url';

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.map': 'application/json; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
};

/**
 * Serves `mounts` ({ '/': folder, '/models/': folder }, the longest matching prefix wins) on the loopback
 * interface; port 0 takes a free one. `log` is called with each request line; `intercept` may answer a
 * request itself, and then returns true.
 * @returns {Promise<{ url: string, close: () => Promise<void> }>}
 */
export async function serve(mounts, { port = 0, log, intercept } = {}) {
  const handler = (request, response) => {
    log?.(`${request.method} ${request.url}`);
    if (intercept?.(request, response)) return;
    answer(mounts, request, response).catch((error) => {
      if (!response.headersSent) response.writeHead(500, { 'content-type': 'text/plain' });
      response.end(String(error));
    });
  };
  const first = await listen(handler, port, '127.0.0.1');
  const taken = first.address().port;
  // Some systems resolve localhost to ::1 first; where IPv6 is off, 127.0.0.1 alone will do.
  const second = await listen(handler, taken, '::1').catch(() => undefined);
  const close = (server) => new Promise((resolve) => {
    server.close(resolve);
    server.closeAllConnections();
  });
  return {
    url: `http://localhost:${taken}/`,
    close: async () => {
      await Promise.all([first, second].filter(Boolean).map(close));
    },
  };
}

function listen(handler, port, host) {
  return new Promise((resolve, reject) => {
    const server = createServer(handler);
    server.once('error', reject);
    server.listen(port, host, () => resolve(server));
  });
}

async function answer(mounts, request, response) {
  const refuse = (status, text) => {
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' });
    response.end(`${status} ${text}\n`);
  };
  if (request.method !== 'GET' && request.method !== 'HEAD') return refuse(405, 'only GET and HEAD');

  let path;
  try {
    path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
  } catch {
    return refuse(400, 'not a path');
  }
  if (path.includes('\0')) return refuse(400, 'not a path');
  const prefix = Object.keys(mounts).filter((mount) => path.startsWith(mount)).sort((a, b) => b.length - a.length)[0];
  if (prefix === undefined) return refuse(404, 'not found');
  const rest = normalize(`${sep}${path.slice(prefix.length)}`); // rooted: `..` cannot leave the mount
  let file = join(mounts[prefix], rest);
  let found = await stat(file).catch(() => undefined);
  if (found?.isDirectory()) {
    if (!path.endsWith('/')) {
      response.writeHead(301, { location: `${path}/` });
      return response.end();
    }
    file = join(file, 'index.html');
    found = await stat(file).catch(() => undefined);
  }
  if (!found?.isFile()) return refuse(404, 'not found');

  const etag = `"${found.size.toString(36)}-${Math.floor(found.mtimeMs).toString(36)}"`;
  const headers = {
    'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
    'accept-ranges': 'bytes',
    'cache-control': 'no-cache',
    // The tests load from a second origin, as a page on one host and weights on another would.
    'access-control-allow-origin': '*',
    'access-control-expose-headers': 'etag, content-length, content-range, accept-ranges',
    etag,
  };
  if (request.headers['if-none-match'] === etag) {
    response.writeHead(304, headers);
    return response.end();
  }
  const range = parseRange(request.headers.range, found.size);
  if (range === 'unsatisfiable') {
    response.writeHead(416, { ...headers, 'content-range': `bytes */${found.size}` });
    return response.end();
  }
  const { start, end } = range ?? { start: 0, end: found.size - 1 };
  if (range) headers['content-range'] = `bytes ${start}-${end}/${found.size}`;
  headers['content-length'] = end - start + 1;
  response.writeHead(range ? 206 : 200, headers);
  if (request.method === 'HEAD' || found.size === 0) return response.end();
  const stream = createReadStream(file, { start, end });
  stream.on('error', () => response.destroy());
  response.on('close', () => stream.destroy());
  stream.pipe(response);
}

/** One range, or undefined for none or one not understood (then the whole file is sent, as RFC 9110 allows). */
function parseRange(header, size) {
  const [, from, to] = /^bytes=(\d*)-(\d*)$/.exec(header ?? '') ?? [];
  if (from === undefined || (from === '' && to === '')) return undefined;
  const start = from === '' ? Math.max(0, size - Number(to)) : Number(from);
  const end = from === '' || to === '' ? size - 1 : Math.min(Number(to), size - 1);
  return start <= end ? { start, end } : 'unsatisfiable';
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const args = process.argv.slice(2);
  const at = args.indexOf('--port');
  const port = at < 0 ? 8000 : Number(args.splice(at, 2)[1]);
  const mounts = Object.fromEntries(args.map((arg) => [arg.slice(0, arg.indexOf('=')), arg.slice(arg.indexOf('=') + 1)]));
  try {
    const { url } = await serve(mounts, { port });
    console.log(`Serving on ${url}`);
  } catch (error) {
    console.error(error.code === 'EADDRINUSE' ? `port ${port} is taken: choose another with --port` : `cannot serve: ${error.message}`);
    process.exit(1);
  }
}
