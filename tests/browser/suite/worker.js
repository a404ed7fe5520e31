// Runs one case at a time in the module of crate tests/suite.

import { openDevice } from './helium/device.js';
import init, { list, offer, run } from './built/suite.js';

const ready = init();

onmessage = async ({ data: { name } }) => {
  try {
    await ready;
    // A case may open the device: it asks for the features as the package does.
    const value = await openDevice({}, ({ subgroups, packedDot }) => {
      offer(subgroups, packedDot);
      return name === undefined ? list() : run(name);
    });
    postMessage({ value });
  } catch (error) {
    postMessage({ error: String(error?.message ?? error), trapped: error instanceof WebAssembly.RuntimeError });
  }
};
