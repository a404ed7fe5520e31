// One engine, one run: a prompt and its continuation, timed from the outside.

const now = () => performance.now();

/** From the times of the first and last token. */
function speeds({ begin, first, last, nPrompt, nDecoded }) {
  return { prefill: (nPrompt / (first - begin)) * 1000, decode: ((nDecoded - 1) / (last - first)) * 1000 };
}

const ENGINES = {
  async helium({ text, counts, model }) {
    const { Helium } = await import('/helium/index.js');
    const helium = await Helium.load({ weights: model, contextLength: 512, cache: false });
    const ids = (await helium.tokenize(text)).slice(0, counts.prompt);
    const prompt = await helium.detokenize(ids);
    for await (const _ of helium.generate('Hello there', { maxTokens: 2, temperature: 0 })); // whatever is made at the first use
    const begin = now();
    let [first, last, count] = [0, 0, 0];
    for await (const _ of helium.generate(prompt, { maxTokens: counts.decode + 1, temperature: 0 })) {
      last = now();
      first ||= last;
      count += 1;
    }
    const adapter = helium.info.adapter.name;
    await helium.close();
    return { ...speeds({ begin, first, last, nPrompt: ids.length, nDecoded: count }), adapter };
  },

  async wllama({ text, counts, model }) {
    const { Wllama } = await import('@wllama/wllama');
    const wllama = new Wllama({ default: '/node_modules/@wllama/wllama/esm/wasm/wllama.wasm' }, { suppressNativeLog: true });
    await wllama.loadModel([await (await fetch(model)).blob()], { n_ctx: 512, n_threads: 1, n_gpu_layers: 0 });
    const complete = async (prompt, n) => {
      const begin = now();
      let [first, last, count] = [0, 0, 0];
      const stream = await wllama.createCompletion({ prompt, max_tokens: n, temperature: 0, stream: true });
      for await (const _ of stream) {
        last = now();
        first ||= last;
        count += 1;
      }
      return { begin, first, last, nDecoded: count };
    };
    await complete('Hello there', 2);
    return speeds({ ...(await complete(text, counts.decode + 1)), nPrompt: counts.prompt });
  },

  async transformers({ text, counts, onnx }) {
    const { AutoModelForCausalLM, AutoTokenizer, Tensor, env } = await import('@huggingface/transformers');
    Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: '/onnx/', useBrowserCache: false });
    env.backends.onnx.wasm.wasmPaths = '/node_modules/onnxruntime-web/dist/';
    const tokenizer = await AutoTokenizer.from_pretrained(onnx);
    const model = await AutoModelForCausalLM.from_pretrained(onnx, { device: 'webgpu', dtype: 'q4' });
    const { input_ids } = tokenizer(text);
    const ids = input_ids.data.slice(0, counts.prompt);
    const generate = async (tokens, n) => {
      let [begin, first, last, count] = [now(), 0, 0, -1]; // the first call carries the prompt
      const streamer = { put: () => ((last = now()), (first ||= count === 0 ? last : 0), (count += 1)), end: () => undefined };
      const shape = [1, tokens.length];
      const mask = new Tensor('int64', new BigInt64Array(tokens.length).fill(1n), shape);
      await model.generate({ inputs: new Tensor('int64', tokens, shape), attention_mask: mask, max_new_tokens: n, min_new_tokens: n, do_sample: false, streamer });
      return { begin, first, last, nDecoded: count };
    };
    await generate(ids.slice(0, 4), 2);
    return speeds({ ...(await generate(ids, counts.decode + 1)), nPrompt: ids.length });
  },
};

globalThis.run = (engine, options) => ENGINES[engine](options);
