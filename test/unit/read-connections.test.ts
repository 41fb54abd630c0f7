/** What open databases cost: page caches, and connections that exist only while somebody needs them. */
import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { openReadOnly, ReadConnectionPool } from '../../src/stores/readConnection.js';
import { EVENT_SCHEMA } from '../../src/stores/shardSchema.js';
import { openStore } from '../../src/stores/storeFile.js';
import { temporaryDirectory } from '../fixtures/singleStores.js';

/** Database files of a directory that this process has open. */
function openFiles(directory: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      const path = readlinkSync(join('/proc/self/fd', fd));
      return path.startsWith(directory) && path.endsWith('.db');
    } catch {
      return false;
    }
  }).length;
}

test('[ADV-7] [QX-66] connections for reading are opened when a query needs them, no more than the bound at once, and closed when idle', async (t) => {
  const directory = temporaryDirectory(t);
  const files = Array.from({ length: 5 }, (_, n) => {
    const path = join(directory, `store-${n}.db`);
    openStore(path, METRIC_SCHEMA).close();
    return { path, identity: String(n) };
  });
  const pool = new ReadConnectionPool({ maxOpen: 2, idleMs: 1000, onUnopenable: () => undefined });
  t.after(() => pool.close());
  const { signal } = new AbortController();
  assert.equal(openFiles(directory), 0);
  for (const file of files) {
    const connections = await pool.acquire([file], signal);
    assert.equal(connections.length, 1);
    pool.release(connections);
    assert.ok(pool.size.open <= 2 && openFiles(directory) <= 2);
  }
  assert.equal(openFiles(directory), 2);
  pool.closeIdle(performance.now() + 500);
  assert.equal(openFiles(directory), 2);
  pool.closeIdle(performance.now() + 2000);
  assert.deepEqual([pool.size.open, openFiles(directory)], [0, 0]);
});

test('[ADV-6] page caches: 512 KiB to 1 MiB for a reader, 2 MiB or more for a writer', (t) => {
  const directory = temporaryDirectory(t);
  for (const [name, schema] of [
    ['shard.db', EVENT_SCHEMA],
    ['metrics.db', METRIC_SCHEMA],
  ] as const) {
    const writer = openStore(join(directory, name), schema);
    assert.ok(Number(writer.pragma('cache_size', { simple: true })) <= -2048, name);
    writer.close();
    const reader = openReadOnly(join(directory, name));
    const kib = -Number(reader.pragma('cache_size', { simple: true }));
    assert.ok(kib >= 512 && kib <= 1024, `${name}: ${kib}`);
    reader.close();
  }
});
