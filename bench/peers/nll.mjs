// Does llama.cpp open a file that `helium quantize` wrote, and find a text as probable as we do?
//
//     npm install --ignore-scripts; node nll.mjs ../../target/release/helium MODEL.gguf…
//
// Both are given the same token ids, of eight texts. Exits with 1 where the mean negative log-likelihoods of all
// tokens differ by more than 0.02: llama.cpp rounds activations to 8 bits before it multiplies them with quantised
// weights, which moves the mean by about 0.01.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

const { texts } = JSON.parse(readFileSync(new URL('../../tests/data/smollm2/expected.json', import.meta.url), 'utf8'));
const MOST = 0.02;

const [helium, ...files] = process.argv.slice(2);
if (files.length === 0) {
  console.error('usage: node nll.mjs PATH_OF_HELIUM MODEL.gguf…');
  process.exit(2);
}
const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error });
let worst = 0;
for (const file of files) {
  const model = await llama.loadModel({ modelPath: file });
  const context = await model.createContext({ contextSize: 512 });
  const sequence = context.getSequence();
  const sums = { ours: 0, theirs: 0 };
  let [count, equal] = [0, 0];
  for (const { text } of texts) {
    const score = ['score', file, '--text', text, '--json'];
    const { ids, logprobs } = JSON.parse(execFileSync(helium, score, { encoding: 'utf8', maxBuffer: 1 << 26 }));
    sums.ours -= logprobs.slice(1).reduce((sum, logprob) => sum + logprob, 0);
    await sequence.clearHistory();
    const found = await sequence.controlledEvaluate(ids.slice(0, -1).map((id) => [id, { generateNext: { probabilities: true } }]));
    found.forEach(({ next }, at) => (sums.theirs -= Math.log(next.probabilities.get(ids[at + 1]))));
    count += found.length;
    equal += model.tokenize(text).join() === (ids[0] === model.tokens.bos ? ids.slice(1) : ids).join();
  }
  const [ours, theirs] = [sums.ours / count, sums.theirs / count];
  const difference = Math.abs(theirs - ours);
  worst = Math.max(worst, Number.isNaN(difference) ? Infinity : difference);
  console.log(`${basename(file)}: ours ${ours.toFixed(4)}, llama.cpp ${theirs.toFixed(4)}; ids of ${equal} of ${texts.length} texts equal`);
  await context.dispose();
  await model.dispose();
}
process.exit(worst <= MOST ? 0 : 1);
