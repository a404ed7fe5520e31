// The engine's own cases (crate tests/suite), one by one in a module worker of the browser: the same
// kernels against the same CPU twins as natively.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { openPage } from './browsers.mjs';
import { check } from './harness.mjs';
import { serve } from './server.mjs';

const BUILT = fileURLToPath(new URL('../../target/suite', import.meta.url));
const PACKAGE = fileURLToPath(new URL('../../npm/dist', import.meta.url));
const PAGE = fileURLToPath(new URL('suite', import.meta.url));
const LIMIT = 180; // seconds a case: software adapters compile slowly

// By default every kernel, and some whole models at WebGPU's default limits. The other cases take as long again, nearly all of
// it for compiling on a software adapter, and pass through nothing that differs between browsers: HELIUM_CASES=. runs
// them too, as any other pattern runs what it matches.
const CASES = new RegExp(process.env.HELIUM_CASES ?? '^(matvec|matmul|embed|attention|sample|golden_(llama_bf16|helium_bf16|heads5|gguf_Q4_0|gguf_K)$|loader_bytes|session_streams)');

export async function testSuite(browser) {
  let server;
  let page;
  let names = [];
  const ready = await check(`${browser.name}: the engine's cases can be listed`, 120, async () => {
    if (!existsSync(`${BUILT}/suite.js`)) throw new Error(`${BUILT}/suite.js is missing: ./build.sh test builds it`);
    server = await serve({ '/': PAGE, '/built/': BUILT, '/helium/': PACKAGE });
    page = await openPage(browser, server.url);
    const all = await page.evaluate(() => globalThis.listCases());
    names = all.filter((name) => CASES.test(name));
    if (names.length < all.length) console.log(`--    ${browser.name}: ${names.length} of ${all.length} cases; HELIUM_CASES=. runs all`);
    if (names.length === 0) throw new Error(`no case matches ${CASES}`);
  });
  try {
    if (!ready) return;
    for (const name of names) {
      // The page gives a case up a little before this does, with a new worker for the next.
      await check(`${browser.name}: ${name}`, LIMIT + 20, async () => {
        const leftOut = await page.evaluate((each, limit) => globalThis.runCase(each, limit), name, LIMIT);
        if (leftOut) console.log(`--    ${browser.name}: ${name} is left out: ${leftOut}`);
      });
    }
  } finally {
    await page?.close();
    await server?.close();
  }
}
