// A page that has Helium in a worker of its own: started as that, this same file.

import { Helium } from './node_modules/helium-webgpu/dist/index.js';

async function twoTokens(weights) {
  const helium = await Helium.load({ weights, contextLength: 64 });
  let count = 0;
  for await (const _ of helium.generate('Once', { maxTokens: 2, temperature: 0 })) count += 1;
  await helium.close();
  return count;
}

if (globalThis.document) {
  globalThis.inWorker = (weights) =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL('strict.js', import.meta.url), { type: 'module' });
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => reject(new Error(message || 'the worker did not start'));
      worker.postMessage(weights);
    });
} else {
  globalThis.onmessage = ({ data }) => twoTokens(data).then(postMessage, (error) => postMessage(String(error)));
}
