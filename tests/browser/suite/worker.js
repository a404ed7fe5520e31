// Runs one case at a time in the module of crate tests/suite.

import init, { list, run } from './built/suite.js';

const ready = init();

onmessage = async ({ data: { name } }) => {
  try {
    await ready;
    postMessage({ value: name === undefined ? list() : await run(name) });
  } catch (error) {
    postMessage({ error: String(error?.message ?? error), trapped: error instanceof WebAssembly.RuntimeError });
  }
};
