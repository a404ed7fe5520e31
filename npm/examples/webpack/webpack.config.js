// webpack finds the worker and the WebAssembly module by their `new URL(…, import.meta.url)`.

import { copyFile, mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const output = at('../dist/webpack');

export default {
  mode: 'production',
  context: at('.'),
  entry: './main.js',
  output: { path: output, filename: 'main.js', publicPath: 'auto' },
  performance: false, // the WebAssembly module is larger than what webpack finds well for a page
  plugins: [
    {
      apply: (compiler) =>
        compiler.hooks.done.tapPromise('page', async () => {
          await mkdir(output, { recursive: true });
          await copyFile(at('index.html'), `${output}/index.html`);
        }),
    },
  ],
};
