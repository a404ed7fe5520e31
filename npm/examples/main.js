// A page that loads a model by the address in its query, ?weights=URL, and continues what is typed. The same
// for every bundler: nothing here knows how it is built.

import { Helium, HeliumError } from 'helium-webgpu';

const weights = new URLSearchParams(location.search).get('weights') ?? { repo: 'Hob-forge/helium-1-2b-GGUF', quant: 'Q4_K_M' };
const [form, prompt, output, status] = ['form', 'prompt', 'output', 'status'].map((id) => document.getElementById(id));
let stop = new AbortController();

try {
  const helium = await Helium.load({
    weights,
    onProgress: ({ phase, loaded, total }) => (status.textContent = total ? `${phase} ${Math.round((100 * loaded) / total)} %` : phase),
  });
  status.textContent = 'ready';
  form.onsubmit = async (event) => {
    event.preventDefault();
    stop.abort(); // the run before this one
    stop = new AbortController();
    output.textContent = prompt.value;
    try {
      for await (const { text } of helium.generate(prompt.value, { maxTokens: 8, temperature: 0, signal: stop.signal })) output.append(text);
      status.textContent = 'done';
    } catch (error) {
      if (error.code !== 'aborted') throw error;
    }
  };
} catch (error) {
  if (!(error instanceof HeliumError)) throw error;
  status.textContent = `${error.code}: ${error.message}`;
}
