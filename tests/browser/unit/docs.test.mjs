// The documents against the types.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const npm = new URL('../../../npm/', import.meta.url);
const read = (path) => readFile(new URL(path, npm), 'utf8');

test('the reference is what the types say', () => {
  execFileSync(process.execPath, [fileURLToPath(new URL('docs/reference.mjs', npm)), '--check'], { stdio: 'inherit' });
});

test('every error code is explained, and no other', async () => {
  const [, union] = /type HeliumErrorCode =(.*?);/s.exec(await read('dist/errors.d.ts'));
  const codes = Array.from(union.matchAll(/'([a-z-]+)'/g), ([, code]) => code);
  const explained = Array.from((await read('docs/errors.md')).matchAll(/^\| `([a-z-]+)` \|/gm), ([, code]) => code);
  assert.deepEqual(explained, codes);
});
