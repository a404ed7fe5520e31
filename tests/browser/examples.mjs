// The examples of npm/examples, built from the packed tarball as a developer would and run in a browser, under
// a strict content security policy where their page allows it.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { openPage, until } from './browsers.mjs';
import { check } from './harness.mjs';
import { POLICY, ROOT, SMALL, unpack } from './package.mjs';
import { serve } from './server.mjs';

const execute = promisify(execFile);
const EXAMPLES = join(ROOT, 'npm/examples');
const DIST = join(EXAMPLES, 'dist');
const PACKAGE = join(EXAMPLES, 'node_modules/helium-webgpu');
const TSC = join(ROOT, 'npm/node_modules/typescript/bin/tsc');
const BUILT = ['vite', 'webpack', 'esbuild', 'react'];
const LIMIT = 120; // seconds

export async function testExamples(browser) {
  const { name } = browser;
  const installed = await check('examples: the tarball installs', 30, async () => {
    for (const folder of [PACKAGE, DIST]) await rm(folder, { recursive: true, force: true });
    await unpack(PACKAGE);
  });
  if (!installed) return;

  for (const project of ['openai', 'react']) {
    await check(`examples: the types of ${project} hold`, LIMIT, () => run(process.execPath, [TSC, '-p', project]));
  }
  for (const example of BUILT) await check(`examples: ${example} builds`, LIMIT, () => run('npm', ['run', '--silent', example]));
  // No build: the page, and the package's folder beside it.
  await cp(join(EXAMPLES, 'import-map'), join(DIST, 'import-map'), { recursive: true });
  await cp(join(EXAMPLES, 'main.js'), join(DIST, 'import-map/main.js'));
  await cp(join(PACKAGE, 'dist'), join(DIST, 'import-map/helium'), { recursive: true });

  const server = await serve({ '/': DIST, '/small/': SMALL }, {
    intercept(request, response) {
      // An import map is a script within the page, which the policy would have to name by its hash.
      if (!request.url.startsWith('/import-map/')) response.setHeader('content-security-policy', POLICY);
      return false;
    },
  });
  try {
    for (const example of [...BUILT, 'import-map']) {
      await check(`${name}: the example ${example} generates`, LIMIT, async () => {
        const page = await openPage(browser, `${server.url}${example}/?weights=/small/model.gguf`);
        try {
          const status = () => page.evaluate(() => document.getElementById('status')?.textContent);
          const reach = (word) => until(word, async () => {
            const now = await status();
            assert.doesNotMatch(now ?? '', /:/, 'an error');
            return now === word;
          }, LIMIT * 1000);
          await reach('ready');
          await page.evaluate(() => document.getElementById('form').requestSubmit());
          await reach('done');
          const text = await page.evaluate(() => document.getElementById('output').textContent);
          assert.ok(text.startsWith('Once upon a time') && text.length > 16, text);
          assert.deepEqual(page.problems, []);
        } finally {
          await page.close();
        }
      });
    }
  } finally {
    await server.close();
  }
}

async function run(command, args) {
  await execute(command, args, { cwd: EXAMPLES }).catch((error) => assert.fail(`${error.stdout}${error.stderr}`));
}
