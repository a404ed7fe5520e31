// The module worker: messages in, messages out, the engine between. The only importer of the
// WebAssembly glue. What needs the GPU runs one after another in the order it came.

import { check } from './check.js';
import { Compiler, openDevice } from './device.js';
import { HeliumError, toWire } from './errors.js';
import type { Origin } from './fetch.js';
import { StaleCache } from './open.js';
import { Meter } from './progress.js';
import type { WireLoad } from './options.js';
import type { FromWorker, Request, ToWorker } from './protocol.js';
import { checkWeights } from './plan.js';
import { resolveSource, type Source } from './source.js';
import type { AdapterInfo, Info, Stats, Token } from './types.js';
import init, { Cancel, Engine, Sha256 } from './wasm/helium.js';

// The DOM's types describe a page's `self`; a worker's has these two.
const scope = self as unknown as {
  postMessage(message: FromWorker): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
};

/** Bytes handed to the GPU at once, while those before are on their way: both take its staging memory. */
const FLUSH_BYTES = 8 << 20;

let engine: Engine | undefined;
/** What the engine does not know of its model: from which file it came, and what did not go as asked. */
let about: Pick<Info, 'model' | 'notes'> = { model: '', notes: [] };
/** The adapter's name as the browser gives it: wgpu is told none on the web. */
let adapterName: string | undefined;
/** Set once the module has trapped: its memory is in an unknown state then, and it must not run again. */
let dead: HeliumError | undefined;
/** Those not yet answered; the running generation or scoring with its `Cancel`. */
const open = new Map<number, Cancel | 'waiting' | 'cancelled'>();
let queue: Promise<void> = Promise.resolve();

scope.onmessage = ({ data }) => {
  if (data.op === 'cancel') {
    const state = open.get(data.id);
    if (state instanceof Cancel) state.cancel();
    else if (state !== undefined) open.set(data.id, 'cancelled');
    return;
  }
  open.set(data.id, 'waiting');
  // The tokenizer answers at any time; the engine refuses a second run while one awaits the GPU.
  if (data.op === 'tokenize' || data.op === 'detokenize') void answer(data.id, data);
  else queue = queue.then(() => answer(data.id, data));
};

async function answer(id: number, request: Request): Promise<void> {
  try {
    if (dead) throw dead;
    const value = await perform(id, request);
    const done: FromWorker = { id, kind: 'done', value };
    if (engine && (request.op === 'load' || request.op === 'generate' || request.op === 'score')) {
      const adapter = { ...engine.adapter(), ...(adapterName !== undefined && { name: adapterName }) } as AdapterInfo;
      done.info = { ...engine.info(), adapter, ...about } as Info;
      done.stats = engine.stats() as Stats;
    }
    scope.postMessage(done);
  } catch (thrown) {
    const error = toWire(thrown);
    if (thrown instanceof WebAssembly.RuntimeError) {
      dead = new HeliumError('internal', `the engine stopped (${thrown.message}): close it and load again`);
    }
    scope.postMessage({ id, kind: 'failed', error });
  } finally {
    open.delete(id);
  }
}

/** What stops the run with this id, unless it is to stop before it began. */
function cancellable(id: number): Cancel {
  if (open.get(id) === 'cancelled') throw new HeliumError('aborted', 'aborted by the caller');
  const cancel = new Cancel();
  open.set(id, cancel);
  return cancel;
}

async function perform(id: number, request: Request): Promise<unknown> {
  if (request.op === 'load') return load(id, request.options);
  if (request.op === 'check') {
    await init();
    return checkWeights(request.options);
  }
  if (!engine) throw new HeliumError('closed', 'no model is loaded');
  switch (request.op) {
    case 'generate': {
      const cancel = cancellable(id);
      const emit = (token: object): void => scope.postMessage({ id, kind: 'token', token: known(token) as Token });
      return engine.generate(request.prompt, request.options, cancel, emit);
    }
    case 'score':
      return engine.score(request.text, request.top, cancellable(id));
    case 'bench':
      return engine.bench(request.options);
    case 'tokenize':
      return engine.tokenize(request.text);
    case 'detokenize':
      return engine.detokenize(request.ids);
    case 'close':
      engine.free();
      engine = undefined;
      return undefined;
  }
}

/** Resolves to what was found out about this device, for the next load. */
async function load(id: number, options: WireLoad): Promise<string | undefined> {
  const meter = new Meter((progress) => scope.postMessage({ id, kind: 'progress', progress }));
  meter.enter('gpu');
  await init();
  const { kernels: _, ...gpu } = options.gpu;
  const compiler = new Compiler();
  const opened = await openDevice(gpu, (offered) => Engine.open({ ...gpu, ...offered }, () => compiler.compiling()), (device) => compiler.take(device));
  const { powerPreference } = gpu;
  adapterName = (await check(powerPreference === undefined ? {} : { powerPreference })).adapter?.name;

  meter.enter('tokenizer');
  const onBytes = (count: number, from: Origin): void => meter.add(count, from);
  const source = await resolveSource(options, { ...options.means, onBytes });
  meter.enter('weights');
  try {
    await stream(source, options, opened, meter);
  } catch (error) {
    if (!(error instanceof StaleCache)) throw error;
    source.notes.add(`cache: what was kept of the model was not usable, and was fetched again (${error.message})`);
    meter.restart();
    await stream(source, options, opened, meter);
  }

  meter.enter('prepare');
  await opened.finish();
  engine = opened;
  about = { model: source.parts[0]!.name, notes: [...source.notes] };
  meter.enter('ready');
  return opened.tuning();
}

/** Without what the engine says is null. */
function known(token: object): object {
  return Object.fromEntries(Object.entries(token).filter(([, value]) => value !== null));
}

/** Reads all files of weights into the engine. */
async function stream({ parts, configJson, tokenizerJson }: Source, options: WireLoad, into: Engine, meter: Meter): Promise<void> {
  into.begin({
    ...(options.contextLength !== undefined && { contextLength: options.contextLength }),
    ...(options.quantize !== undefined && { quantize: options.quantize }),
    ...(options.gpu.kernels !== undefined && { kernels: options.gpu.kernels }),
    ...(options.tuning !== undefined && { tuning: options.tuning }),
    ...(configJson !== undefined && { configJson }),
    ...(tokenizerJson !== undefined && { tokenizerJson }),
  });
  meter.expect(sum(parts.map((part) => part.size)));
  let unflushed = 0;
  for (const part of parts) {
    const file = await part.open();
    try {
      if (parts.length === 1) meter.expect(file.size);
      into.beginFile(file.name, file.size);
      const sha = part.sha256 === undefined || file.verified ? undefined : new Sha256();
      for await (const piece of file.pieces) {
        sha?.update(piece);
        into.push(piece);
        unflushed += piece.length;
        if (unflushed >= FLUSH_BYTES) {
          await into.flush();
          unflushed = 0;
        }
      }
      const found = sha?.hex();
      if (found !== undefined && found !== part.sha256) {
        throw new HeliumError('corrupt', `${file.name}: expected sha256 ${part.sha256}, found ${found}: the file is damaged or another one`);
      }
      into.endFile();
      await file.done();
    } catch (error) {
      const { code, message } = toWire(error);
      if (error instanceof StaleCache) {
        await file.leave(false);
        throw error;
      }
      // A file that no engine can read, an error page for one, is not worth keeping; one that this engine does not
      // run is, where it was kept before.
      await file.leave(code === 'corrupt' || (code === 'unsupported-model' && file.kept() === 0));
      if (code === 'corrupt' && file.kept() > 0) throw new StaleCache(code, message);
      throw error;
    }
  }
}

/** Their sum, or undefined where one is unknown. */
function sum(sizes: (number | undefined)[]): number | undefined {
  return sizes.reduce((total, size) => (total === undefined || size === undefined ? undefined : total + size), 0);
}
