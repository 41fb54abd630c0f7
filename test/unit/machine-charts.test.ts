/** The generated documents say what the code says: state charts and the table of settings. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runProgram } from '../fixtures/runProgram.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** Each generator with the document it writes and a line whose loss it must notice. */
const GENERATED = [
  { script: 'draw-machines.mjs', document: 'machines.md', line: '  batching --> committing :' },
  { script: 'list-settings.mjs', document: 'configuration.md', line: '| `MaxBatchSize` |' },
] as const;

let directory = '';
before(() => {
  directory = mkdtempSync(join(tmpdir(), 'charts-'));
});
after(() => rmSync(directory, { recursive: true, force: true }));

function generate(script: string, ...args: string[]) {
  return runProgram([join(root, 'scripts', script), ...args]);
}
