/** A thread that ends while registry calls hang: neither they nor the code they run may be gone. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { addonPath } from '../../src/native/addon.js';
import { EVENTD_KEY } from '../../src/registry/names.js';
import { FakeLcs } from '../fixtures/lcs.js';

/** The thread alone loads the addon. */
const PROGRAM = `
const { Worker } = require('node:worker_threads');
const [addon, key] = process.argv.slice(1);
const code = "const { workerData: [addon, key], parentPort } = require('node:worker_threads');" +
  "const native = require(addon);" +
  "for (let i = 0; i < 20; i++) native.lcsReadValues(key).catch(() => undefined);" +
  "parentPort.postMessage('asked');";
const worker = new Worker(code, { eval: true, workerData: [addon, key] });
worker.once('message', async () => {
  await worker.terminate();
  const overwritten = Array.from({ length: 200 }, (_, i) => Buffer.allocUnsafeSlow(64 + 4 * i).fill(0xa5));
  require('node:fs').rmSync(process.env.EVENTD_TEST_LCS + '/hold', { force: true });
  setTimeout(() => console.log('alive', overwritten.length), 300);
});`;

test('[HOST-38] a thread that ends does not wait for calls that hang, and they end after it', {
  timeout: 20_000,
}, (t) => {
  const lcs = FakeLcs.for(t);
  lcs.hold(EVENTD_KEY);
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    ['-e', PROGRAM, addonPath, EVENTD_KEY],
    { env: { ...process.env, ...lcs.env }, encoding: 'utf8', timeout: 15_000 },
  );
  assert.deepEqual([signal, status, stdout], [null, 0, 'alive 200\n'], stderr);
});
