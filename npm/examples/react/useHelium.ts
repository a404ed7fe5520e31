// Helium as a React hook: the model is loaded while a component is mounted, text streams into its state.

import { useCallback, useEffect, useRef, useState } from 'react';
import { Helium, HeliumError, type GenerateOptions, type Progress, type Weights } from 'helium-webgpu';

export interface UseHelium {
  /** Undefined before anything arrived. */
  progress: Progress | undefined;
  error: HeliumError | undefined;
  /** What was written so far. */
  text: string;
  running: boolean;
  /** Undefined until the model is loaded. Stops a run before it. */
  generate: ((prompt: string, options?: GenerateOptions) => Promise<void>) | undefined;
  stop: () => void;
}

/** `weights` must stay the same object from one rendering to the next: a string, a constant, or from `useMemo`. */
export function useHelium(weights: Weights): UseHelium {
  const [helium, setHelium] = useState<Helium>();
  const [progress, setProgress] = useState<Progress>();
  const [error, setError] = useState<HeliumError>();
  const [text, setText] = useState('');
  const [running, setRunning] = useState(false);
  const run = useRef<AbortController>(undefined);

  useEffect(() => {
    // Aborting frees what was loaded, so an effect that runs twice, as in strict mode, holds one model.
    const mounted = new AbortController();
    const { signal } = mounted;
    const loading = Helium.load({ weights, onProgress: setProgress, signal });
    loading.then(setHelium, (thrown: HeliumError) => signal.aborted || setError(thrown));
    return () => {
      mounted.abort();
      run.current?.abort();
      setHelium(undefined);
      loading.then((loaded) => loaded.close(), () => undefined);
    };
  }, [weights]);

  const stop = useCallback(() => run.current?.abort(), []);

  const generate = useCallback(
    async (prompt: string, options?: GenerateOptions) => {
      run.current?.abort();
      const { signal } = (run.current = new AbortController());
      setText('');
      setError(undefined);
      setRunning(true);
      try {
        for await (const token of helium!.generate(prompt, { ...options, signal })) setText((before) => before + token.text);
      } catch (thrown) {
        if (!signal.aborted) setError(thrown as HeliumError);
      } finally {
        if (run.current?.signal === signal) setRunning(false);
      }
    },
    [helium],
  );

  return { progress, error, text, running, generate: helium && generate, stop };
}
