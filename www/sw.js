// Keeps the page's own files, so that it opens without a network; models are the package's own business. The files name
// each other, in links, imports and addresses, so that no list of them need be kept up to date: this follows the names.

const CACHE = 'helium-page';
const SCOPE = self.registration.scope;

self.addEventListener('install', (event) => {
  event.waitUntil(keepAll(false).then(() => self.skipWaiting()));
});
self.addEventListener('activate', (event) => {
  event.waitUntil(self.clients.claim());
});
// The page asks for the engine's module as well once it has been of use: it is the largest of the files.
self.addEventListener('message', ({ data }) => {
  if (data === 'keep all') keepAll(true).catch(() => undefined);
});

self.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== 'GET' || !isOurs(url) || request.headers.has('range')) return;
  event.respondWith(fresh(request, url));
});

/** Files of the page itself: nothing that is large, and no weights. */
function isOurs({ href, pathname }) {
  return href.startsWith(SCOPE) && (pathname.endsWith('/') || /\.(html|js|css|svg|wasm|webmanifest)$/.test(pathname));
}

/** The network's answer where there is a whole one, so that a new version is seen at once; else the one that was kept. */
async function fresh(request, url) {
  const key = url.origin + url.pathname;
  try {
    const response = await fetch(request);
    if (response.ok && response.type === 'basic') {
      const cache = await caches.open(CACHE);
      // Not kept for want of room: then not. Or else the body broke off, and reading it once more says so.
      await cache.put(key, response.clone()).catch(() => response.clone().arrayBuffer());
    }
    return response;
  } catch (error) {
    const kept = await caches.match(key, { cacheName: CACHE });
    if (kept) return kept;
    throw error;
  }
}

async function keepAll(withModule) {
  const cache = await caches.open(CACHE);
  const seen = new Set();
  const keep = async (url) => {
    if (seen.has(url) || (/wasm/.test(url.slice(SCOPE.length)) && !withModule)) return;
    seen.add(url);
    const response = await fetch(url, { cache: 'no-cache' }).catch(() => undefined);
    if (!response?.ok) return; // a name in a comment, say
    await cache.put(url, response.clone());
    if (!/\.wasm$|\.svg$/.test(url)) await Promise.all(namesIn(await response.text(), url).map(keep));
  };
  await keep(SCOPE);
}

/** The addresses that a file names: `src`, `href`, `import … from '…'`, `new URL('…', import.meta.url)`. */
function namesIn(text, base) {
  const found = text.matchAll(/(?:\b(?:src|href)=|\bfrom\s*|\bimport\s*\(?\s*|\bnew URL\(\s*)["']([^"'\s]+\.(?:js|css|svg|wasm))["']/g);
  return [...found].map(([, name]) => new URL(name, base)).filter(isOurs).map(({ href }) => href);
}
