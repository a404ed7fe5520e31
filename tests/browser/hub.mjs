// A model hub for tests: repositories with a listing, small files given directly, large ones by a
// redirect to a signed address of another origin. It behaves as the real one does, ranges, entity tags
// and hidden headers included, until a test has it misbehave.

import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { gzipSync } from 'node:zlib';

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/**
 * @param {Record<string, Record<string, Buffer>>} repos  "owner/name" → path → bytes
 * @typedef {object} Exchange  one request for a large file at the CDN
 * @property {number} nth      from 1, since the last `reset`
 * @property {number} from     the first byte asked for: requests in parallel arrive in any order
 * @property {string} path     in the repository
 * @property {Buffer} bytes    of the file
 * @property {(how?: object) => void} send  answers as a good server would, with some things otherwise: see `send`
 */
export async function serveHub(repos) {
  const hub = {
    /** Every request: { at: 'hub' | 'cdn', path, range, headers }. */
    requests: [],
    /** Bytes of large files sent. */
    sent: 0,
    /** @type {(exchange: Exchange & { request, response }) => void} */
    behave: ({ send }) => send(),
    /** As if the network were gone: every connection breaks. */
    offline: false,
    /** Small files go compressed, and with the length that they have so; other origins are not told. */
    compresses: false,
    /** Whether the hub's API answers. */
    listed: true,
    expire: () => (signature += 1),
    reset() {
      hub.requests = [];
      hub.sent = 0;
      hub.behave = ({ send }) => send();
      hub.offline = hub.compresses = false;
      hub.listed = true;
    },
    ranges: () => hub.requests.filter(({ at }) => at === 'cdn').map(({ range }) => range),
    close: async () => {
      for (const server of [front, cdn]) {
        server.close();
        server.closeAllConnections();
      }
    },
  };
  let signature = 1;

  const cdn = await listen((request, response) => {
    if (!opened('cdn', request, response)) return;
    const url = new URL(request.url, 'http://cdn');
    const [, owner, name, ...rest] = decodeURIComponent(url.pathname).split('/');
    const path = rest.join('/');
    const bytes = repos[`${owner}/${name}`]?.[path];
    if (!bytes) return response.writeHead(404, CORS).end();
    if (url.searchParams.get('signature') !== String(signature)) return response.writeHead(403, CORS).end();
    const nth = hub.requests.filter(({ at }) => at === 'cdn').length;
    const from = Number(/^bytes=(\d+)/.exec(request.headers.range ?? '')?.[1] ?? 0);
    hub.behave({ nth, from, path, bytes, request, response, send: (how) => send(request, response, bytes, how) });
  });

  const front = await listen((request, response) => {
    if (!opened('hub', request, response)) return;
    const url = new URL(request.url, 'http://hub');
    const path = decodeURIComponent(url.pathname);
    const [, repo, folder] = /^\/api\/models\/([^/]+\/[^/]+)\/tree\/[^/]+\/?(.*)$/.exec(path) ?? [];
    if (repo) return list(response, repos[repo], folder, url.searchParams.has('recursive'));
    const [, from, file] = /^\/([^/]+\/[^/]+)\/resolve\/[^/]+\/(.+)$/.exec(path) ?? [];
    const bytes = repos[from]?.[file];
    if (!bytes) return response.writeHead(404, CORS).end();
    if (!isLarge(file) && hub.compresses && !request.headers.range) {
      const body = gzipSync(bytes);
      return response.writeHead(200, { ...CORS, 'content-encoding': 'gzip', 'content-length': body.length }).end(body);
    }
    if (!isLarge(file)) return send(request, response, bytes, { count: false });
    const address = `${cdn.url}/${from}/${file}?signature=${signature}`;
    response.writeHead(302, { ...CORS, location: address, 'x-linked-etag': `"${sha256(bytes)}"`, 'x-linked-size': bytes.length }).end();
  });
  hub.url = front.url;
  return hub;

  function opened(at, request, response) {
    if (hub.offline) {
      request.destroy();
      return false;
    }
    if (request.method === 'OPTIONS') {
      // A browser asks leave for headers of the caller's.
      response.writeHead(204, { ...CORS, 'access-control-allow-headers': 'authorization, range, x-team', 'access-control-allow-methods': 'GET, HEAD' }).end();
      return false;
    }
    hub.requests.push({ at, path: request.url, range: request.headers.range, headers: request.headers });
    return true;
  }

  function list(response, files, folder, recursive) {
    if (!hub.listed || !files) return response.writeHead(hub.listed ? 404 : 500, CORS).end();
    const inside = Object.keys(files).filter((path) => path.startsWith(folder && `${folder}/`));
    const listing = inside
      .filter((path) => recursive || !path.slice(folder ? folder.length + 1 : 0).includes('/'))
      .map((path) => ({ type: 'file', path, size: files[path].length, oid: '0'.repeat(40), ...(isLarge(path) && { lfs: { oid: sha256(files[path]), size: files[path].length } }) }));
    const body = JSON.stringify(listing);
    response.writeHead(200, { ...CORS, 'content-type': 'application/json', etag: `W/"${sha256(body).slice(0, 16)}"` }).end(body);
  }

  /**
   * `ranges: false`: the whole file whatever was asked for; `stopAt`: breaks off, or with `stall` falls silent, after so
   * many bytes of the body; `file`: another file's bytes; `etag`; `hide`: no Content-Range is exposed.
   */
  function send(request, response, bytes, { ranges = true, stopAt = Infinity, stall = false, file = bytes, etag = `"${sha256(bytes).slice(0, 16)}"`, hide = false, count = true } = {}) {
    const [, first, last] = (ranges && /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')) || [];
    const from = Number(first ?? 0);
    const to = last ? Math.min(Number(last) + 1, file.length) : file.length;
    if (from >= file.length && first !== undefined) return response.writeHead(416, CORS).end();
    response.writeHead(first === undefined ? 200 : 206, {
      ...CORS,
      ...(hide && { 'access-control-expose-headers': '' }),
      'content-length': to - from,
      etag,
      ...(first !== undefined && { 'content-range': `bytes ${from}-${to - 1}/${file.length}`, 'accept-ranges': 'bytes' }),
    });
    const body = file.subarray(from, Math.min(to, from + stopAt));
    if (count) hub.sent += body.length;
    if (from + body.length === to) response.end(body);
    else response.write(body, () => stall || setTimeout(() => response.destroy(), 20));
  }
}

const CORS = { 'access-control-allow-origin': '*', 'access-control-expose-headers': 'ETag, Content-Range, Accept-Ranges, X-Linked-Size, X-Linked-ETag' };
const isLarge = (path) => /\.(gguf|safetensors)$/.test(path);

async function listen(handler) {
  const server = createServer(handler);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.url = `http://127.0.0.1:${server.address().port}`;
  return server;
}
