import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  worker: { format: 'es' }, // the worker is a module
  build: { target: 'es2022', emptyOutDir: true },
  optimizeDeps: { exclude: ['helium-webgpu'] }, // the development server would lose sight of the worker
});
