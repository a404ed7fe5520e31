// esbuild bundles the page. It does not follow `new Worker(new URL(…))`, so the worker is an entry of its
// own, named as the package looks for it, and the WebAssembly module is copied beside it.

import { copyFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const resolved = (path) => fileURLToPath(import.meta.resolve(path));
const output = at('../dist/esbuild');

await build({
  entryPoints: { main: at('../main.js'), worker: resolved('helium-webgpu/worker.js') },
  outdir: output,
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
});
await copyFile(resolved('helium-webgpu/helium.wasm'), `${output}/helium_bg.wasm`);
await copyFile(at('index.html'), `${output}/index.html`);
