import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { StoreError } from '../../src/stores/storeError.js';
import { lockEventStore } from '../../src/stores/storeLock.js';

test('[STO-29, STO-21] a second eventd is refused the event store until the first is done', () => {
  const root = mkdtempSync(join(tmpdir(), 'store-lock-'));
  try {
    const directory = join(root, 'deep/events');
    const release = lockEventStore(directory);
    assert.throws(
      () => lockEventStore(directory),
      (error: unknown) =>
        error instanceof StoreError &&
        error.kind === 'io' &&
        /deep\/events: another eventd uses/.test(error.message),
    );
    release();
    lockEventStore(directory)();
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
