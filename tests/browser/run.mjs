// All tests that need Node or a browser. `./build.sh test` builds what they use and runs them.
//
//     HELIUM_SMOLLM2=FILE node tests/browser/run.mjs [chromium|firefox]… [unit|suite|page|delivery|package|examples]…

import { spawn } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { BROWSERS, launch } from './browsers.mjs';
import { testDelivery } from './delivery.mjs';
import { testDocuments } from './examples-documents.mjs';
import { testExamples } from './examples.mjs';
import { check, finish } from './harness.mjs';
import { testPackage } from './package.mjs';
import { testMissingWebGpu, testPage } from './page.mjs';
import { testSuite } from './suite.mjs';

const PARTS = ['unit', 'suite', 'page', 'delivery', 'package', 'examples'];
const words = process.argv.slice(2);
const unknown = words.filter((word) => ![...PARTS, ...BROWSERS].includes(word));
if (unknown.length > 0) {
  console.error(`unknown: ${unknown.join(' ')}; known are ${[...PARTS, ...BROWSERS].join(', ')}`);
  process.exit(2);
}
const chosen = (from) => (words.some((word) => from.includes(word)) ? from.filter((word) => words.includes(word)) : from);
const parts = chosen(PARTS);

const model = process.env.HELIUM_SMOLLM2;
if (!model) {
  console.error('HELIUM_SMOLLM2: expected the path of SmolLM2-135M-Instruct.Q4_1.gguf; ./build.sh test sets it');
  process.exit(2);
}

if (parts.includes('unit')) {
  const folder = fileURLToPath(new URL('unit', import.meta.url));
  const files = (await readdir(folder)).filter((name) => name.endsWith('.test.mjs')).map((name) => `${folder}/${name}`);
  await check('unit tests of the package', 120, () => succeeds(process.execPath, ['--test', '--test-reporter=spec', ...files]));
}

for (const name of chosen(BROWSERS)) {
  if (!parts.some((part) => part !== 'unit')) break;
  const browser = await start(name);
  if (!browser) continue;
  try {
    if (parts.includes('page')) await testPage(browser, model);
    if (parts.includes('delivery')) await testDelivery(browser, model);
    if (parts.includes('package')) await testPackage(browser, model);
    // What bundlers make is the same for every browser; so are the documents, of which Firefox is the faster reader.
    if (parts.includes('examples')) await (name === 'chromium' ? testExamples : testDocuments)(browser);
    if (parts.includes('suite')) await testSuite(browser);
  } finally {
    await browser.close();
  }
  if (!parts.includes('page')) continue;
  const without = await start(name, { webgpu: false });
  if (!without) continue;
  try {
    await testMissingWebGpu(without);
  } finally {
    await without.close();
  }
}
process.exit(finish());

/** A browser that cannot be started is a failure like any other. */
async function start(name, options) {
  let browser;
  await check(`${name}: starts${options ? ' without WebGPU' : ''}`, 90, async () => {
    browser = await launch(name, options);
  });
  return browser;
}

function succeeds(command, args) {
  return new Promise((resolve, reject) => {
    spawn(command, args, { stdio: 'inherit' })
      .on('error', reject)
      .on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`exit status ${code}`))));
  });
}
