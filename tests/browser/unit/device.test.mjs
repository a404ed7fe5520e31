// Pipelines that are compiled behind the download: what stands for them, and what happens before they are there.

import assert from 'node:assert/strict';
import test from 'node:test';

globalThis.GPUComputePassEncoder = class {
  setPipeline(pipeline) {
    this.pipeline = pipeline;
  }
};
const { Compiler } = await import('../../../npm/dist/device.js');

/** A device on which `compile` says how an asynchronous compilation ends. */
function device(compile) {
  return { createComputePipeline: ({ label }) => `${label} at once`, createComputePipelineAsync: ({ label }) => compile(label) };
}

function used(pipeline) {
  const pass = new GPUComputePassEncoder();
  pass.setPipeline(pipeline);
  return pass.pipeline;
}

test('a pipeline that is ready is the one compiled behind; one of the browser’s own stays as it is', async () => {
  const compiler = new Compiler();
  const gpu = device(async (label) => `${label} behind`);
  compiler.take(gpu);
  assert.equal(compiler.compiling(), undefined);
  const pipeline = gpu.createComputePipeline({ label: 'a' });
  await compiler.compiling();
  assert.equal(compiler.compiling(), undefined);
  assert.equal(used(pipeline), 'a behind');
  assert.equal(used('plain'), 'plain');
});

test('one that is used too early is compiled at once, and stays that', async () => {
  const compiler = new Compiler();
  let ready;
  const gpu = device(() => new Promise((resolve) => (ready = resolve)));
  compiler.take(gpu);
  const pipeline = gpu.createComputePipeline({ label: 'a' });
  assert.equal(used(pipeline), 'a at once');
  const compiling = compiler.compiling();
  ready('late');
  await compiling;
  assert.equal(used(pipeline), 'a at once');
});

test('one that is refused is compiled where it is used, where errors are looked for', async () => {
  const compiler = new Compiler();
  const gpu = device(async () => {
    throw new Error('refused');
  });
  compiler.take(gpu);
  const pipeline = gpu.createComputePipeline({ label: 'a' });
  await compiler.compiling();
  assert.equal(used(pipeline), 'a at once');
});
