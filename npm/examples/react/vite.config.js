import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  esbuild: { jsx: 'automatic' },
  worker: { format: 'es' },
  build: { target: 'es2022', emptyOutDir: true },
  optimizeDeps: { exclude: ['helium-webgpu'] },
});
