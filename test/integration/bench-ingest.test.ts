import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { account } from '../../bench/ingest/accounting.js';
import type { Summary } from '../../bench/ingest/report.js';
import { openShardWriter } from '../../src/stores/shard.js';
import { INSERT_SYNTHETIC } from '../../src/stores/shardSchema.js';
import { gapEvent } from '../../src/stores/synthetic.js';

const BENCH = fileURLToPath(new URL('../../bench/ingest.js', import.meta.url));

function freshDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'eventd-bench-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

test('[ING-44, ING-45, ING-46] the ingest benchmark finds every emitted event stored or inside a gap record', {
  timeout: 300_000,
}, async (t) => {
  const directory = freshDirectory(t);
  const { stdout } = await promisify(execFile)(process.execPath, [
    BENCH,
    '--quick',
    '--json',
    '--dir',
    directory,
  ]);
  const { rows, errors } = JSON.parse(stdout) as { rows: Summary[]; errors: string[] };
  assert.deepEqual(errors, []);
  assert.deepEqual(
    rows.map(({ key }) => key),
    ['a', 'a2', 'b', 'c', 'c2', 'd', 'd2', 'r', 'o'],
  );
  for (const { key, emitted, stored, lost } of rows) {
    assert.ok(emitted > 0, key);
    assert.equal(stored + lost, emitted, key);
    // Where the ring holds the whole run nothing may be lost, however slow the machine.
    if (key !== 'r' && key !== 'o') assert.equal(lost, 0, key);
  }
  const overload = rows.find(({ key }) => key === 'o');
  assert.ok((overload?.lost ?? 0) > 0, 'a ring overwritten many times over loses events, and says so');
});

test('[ING-46] the accounting of the benchmark sees a missing, a doubled and a surplus event', (t) => {
  const directory = freshDirectory(t);
  const store = (name: string, sequences: readonly number[]) => {
    const file = join(directory, name);
    const db = openShardWriter(file);
    const insert = db.prepare(
      "INSERT INTO events (boot_id, timestamp, cpu_id, sequence, event_type) VALUES (x'00', 1, 0, ?, 'test')",
    );
    for (const sequence of sequences) insert.run(sequence);
    const gap = gapEvent(1n, {
      cpu: 0,
      first: 4n,
      last: 6n,
      previousTimestamp: null,
      revealingTimestamp: null,
      cause: 'ring_loss',
    });
    db.prepare(INSERT_SYNTHETIC).run(new Uint8Array(16), gap.timestamp, gap.type, gap.payload);
    db.close();
    return file;
  };
  assert.deepEqual(account([store('right', [1, 2, 3, 7])], 7), {
    stored: 4,
    lost: 3,
    gapRecords: 1,
    errors: [],
  });
  assert.match(account([store('hole', [1, 3, 7])], 6).errors.join(), /1 sequences of CPU 0 are neither/);
  assert.match(account([store('twice', [1, 2, 3, 5, 7])], 8).errors.join(), /1 sequences are there twice/);
  assert.match(
    account([store('tail', [1, 2, 3, 7])], 8).errors.join(),
    /8 emitted, but 4 stored and 3 in gap/,
  );
});
