import { StrictMode, useState } from 'react';
import { createRoot } from 'react-dom/client';

import { useHelium } from './useHelium';

const weights = new URLSearchParams(location.search).get('weights') ?? 'https://huggingface.co/Hob-forge/helium-1-2b-GGUF/resolve/main/helium-1-2b-Q4_K_M.gguf';

function App() {
  const { progress, error, text, running, generate, stop } = useHelium(weights);
  const [prompt, setPrompt] = useState('Once upon a time');
  const status = error ? `${error.code}: ${error.message}` : running ? 'running' : text ? 'done' : generate ? 'ready' : progress?.phase ?? 'loading';
  return (
    <form
      id="form"
      onSubmit={(event) => {
        event.preventDefault();
        void generate?.(prompt, { maxTokens: 8, temperature: 0 });
      }}
    >
      <label>
        Prompt <input id="prompt" value={prompt} onChange={(event) => setPrompt(event.target.value)} />
      </label>
      <button disabled={!generate}>Generate</button>
      <button type="button" disabled={!running} onClick={stop}>Stop</button>
      <p id="status" role="status">{status}</p>
      <output id="output">{text && prompt + text}</output>
    </form>
  );
}

createRoot(document.getElementById('root')!).render(<StrictMode><App /></StrictMode>);
