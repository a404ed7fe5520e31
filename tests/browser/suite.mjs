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

// What runs by default. Chromium is the only one to compile with Tint, for SwiftShader: every kernel that every device has,
// some of those that only some have, and some whole models at WebGPU's default limits. Firefox compiles with Naga for
// lavapipe, as the native suite does: some of each kind. What is left out differs in nothing that could differ between
// browsers; HELIUM_CASES=. runs it too, as any other pattern runs what it matches.
const DEFAULT = {
  chromium: [
    'mat(vec|vec_tiled|mul)_(epilogues|f32|f16|bf16|q\\w+)$', 'mat(vec|vec_tiled|mul)_i8_q4_k$', 'matvec_workgroups$',
    'rows', 'embed', 'attention', 'sample', 'golden_(llama_bf16|heads5|gguf_Q4_0)$', 'loader_bytes', 'session_streams',
  ],
  firefox: [
    'mat(vec|vec_tiled|mul)_(epilogues|f16|q4_k|q6_k|q8_0)$', 'mat(vec|vec_tiled|mul)_i8_q(4|6)_k$', 'matmul_f16_q4_k$', 'matvec_workgroups',
    'rows_(1|8)_(epilogues|f16|q4_k|q6_k|q8_0)$',
    'attention_(hd12_g5|hd64_g[13]|hd256|shared|combine)', 'sample', 'golden_(llama_bf16|helium_bf16|gguf_Q4_0)$', 'golden_gguf_Q4_0_rounded$', 'loader_bytes', 'session_streams',
  ],
};

export async function testSuite(browser) {
  const cases = new RegExp(process.env.HELIUM_CASES ?? `^(${DEFAULT[browser.name].join('|')})`);
  let server;
  let page;
  let names = [];
  const ready = await check(`${browser.name}: the engine's cases can be listed`, 120, async () => {
    if (!existsSync(`${BUILT}/suite.js`)) throw new Error(`${BUILT}/suite.js is missing: ./build.sh test builds it`);
    server = await serve({ '/': PAGE, '/built/': BUILT, '/helium/': PACKAGE });
    page = await openPage(browser, server.url);
    const all = await page.evaluate(() => globalThis.listCases());
    names = all.filter((name) => cases.test(name));
    if (names.length < all.length) console.log(`--    ${browser.name}: ${names.length} of ${all.length} cases; HELIUM_CASES=. runs all`);
    if (names.length === 0) throw new Error(`no case matches ${cases}`);
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
