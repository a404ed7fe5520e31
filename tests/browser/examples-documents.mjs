// The code in the package's documents: each document's pieces (```js and ```ts), in order, are one program. It
// must compile strictly against the package's types, and run in a page to its end.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';

import { openPage } from './browsers.mjs';
import { check } from './harness.mjs';
import { ROOT, SMALL, unpack } from './package.mjs';
import { serve } from './server.mjs';

const execute = promisify(execFile);
const DOCUMENTS = ['README.md', 'docs/guide.md', 'docs/errors.md'];
/** The weights that the documents name; in their place a small model of this repository is loaded. */
const WEIGHTS = /\{ repo: '[^']*', quant: '[^']*' \}|'https:\/\/example\.com\/model\.gguf'/g;
const OPTIONS = {
  compilerOptions: {
    target: 'ES2022', module: 'ES2022', moduleResolution: 'bundler', lib: ['ES2022', 'DOM', 'DOM.Iterable', 'DOM.AsyncIterable'], types: [], strict: true,
  },
  include: ['*.ts'],
};
const LIMIT = 180; // seconds

export async function testDocuments(browser) {
  const { name } = browser;
  const project = await mkdtemp(join(tmpdir(), 'helium-documents-'));
  const installed = join(project, 'node_modules/helium-webgpu');
  const server = await serve({ '/': project, '/small/': SMALL });
  try {
    const compiled = await check('documents: their code compiles', 60, async () => {
      await unpack(installed);
      await writeFile(join(project, 'package.json'), '{ "private": true, "type": "module" }');
      await writeFile(join(project, 'tsconfig.json'), JSON.stringify(OPTIONS));
      for (const document of DOCUMENTS) {
        const text = await readFile(join(installed, document), 'utf8');
        const code = Array.from(text.matchAll(/^```[jt]s\n(.*?)^```$/gms), ([, piece]) => piece).join('\n');
        assert.match(code, /import .* from 'helium-webgpu'/, document);
        await writeFile(join(project, `${nameOf(document)}.ts`), code);
      }
      await execute(process.execPath, [join(ROOT, 'npm/node_modules/typescript/bin/tsc'), '-p', project])
        .catch((error) => assert.fail(error.stdout));
    });
    if (!compiled) return;

    for (const document of DOCUMENTS) {
      await check(`${name}: the code of ${document} runs`, LIMIT, async () => {
        const script = join(project, `${nameOf(document)}.js`);
        const code = await readFile(script, 'utf8');
        await writeFile(script, code.replaceAll(WEIGHTS, "'/small/model.gguf'").replaceAll("'helium-webgpu'", "'./node_modules/helium-webgpu/dist/index.js'"));
        await writeFile(join(project, 'page.html'), '<!doctype html><meta charset="utf-8"><title>A document</title><link rel="icon" href="data:,"><body></body>');
        const page = await openPage(browser, `${server.url}page.html`);
        try {
          await page.evaluate(async (address) => void (await import(address)), `/${nameOf(document)}.js`);
          assert.deepEqual(page.problems, []);
        } finally {
          await page.close();
        }
      });
    }
  } finally {
    await server.close();
    await rm(project, { recursive: true, force: true });
  }
}

const nameOf = (document) => basename(document, '.md').toLowerCase();
