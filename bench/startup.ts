/**
 * From spawn to READY=1: with an empty store, and with five million stored events of the same boot and
 * of an older one. Exits 1 when a median exceeds the limit.
 *
 *   npm run bench:startup -- [--events N] [--runs N] [--limit-ms N]
 */
import { closeSync, fsyncSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { Encoder } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import { formatGuid, parseGuid } from '../src/host/guid.js';
import { SHARD_PAGE_SIZE, SHARD_SCHEMA, UPSERT_METADATA } from '../src/stores/shardSchema.js';
import { BOOT_A, BOOT_B, EventdWorld } from '../test/fixtures/eventd.js';
import { benchOptions } from './options.js';
import { table } from './table.js';

const values = benchOptions({
  events: { type: 'string', default: '5000000' },
  runs: { type: 'string', default: '5' },
  'limit-ms': { type: 'string', default: '1000' },
});
const CPUS = 2;

/** Writes one shard per CPU as a writer would have left it after `events` events in all. */
function fillStore(directory: string, boot: string, events: number): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const payload = new Encoder().encode({ path: '/etc/passwd', granted_access: 1179785, pid: 4242 });
  const guid = parseGuid(boot);
  for (let cpu = 0; cpu < CPUS; cpu++) {
    const count = Math.floor(events / CPUS);
    const file = join(directory, `shard-000${cpu}.db`);
    const db = new Database(file);
    try {
      db.pragma(`page_size = ${SHARD_PAGE_SIZE}`);
      db.pragma('journal_mode = WAL');
      db.pragma('synchronous = OFF');
      for (const sql of SHARD_SCHEMA) db.exec(sql);
      db.transaction(() => {
        db.prepare(
          `INSERT INTO events (boot_id, timestamp, cpu_id, sequence, origin_class, event_type,
             effective_token_guid, true_token_guid, process_guid, payload)
           WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
           SELECT ?, 1750000000000000000 + i * 1000, ?, i, 2, 'kacs.access.file', ?, ?, ?, ? FROM n`,
        ).run(count, guid, cpu, guid, guid, guid, payload);
        const upsert = db.prepare(UPSERT_METADATA);
        upsert.run('schema_version', '1');
        upsert.run('created_at', new Date().toISOString());
        upsert.run('last_boot_id', formatGuid(guid));
        upsert.run(`last_seq.${cpu}`, String(count));
        upsert.run(`settled_seq.${cpu}`, String(count));
      })();
    } finally {
      db.close();
    }
    settle(file);
  }
}

/** What is still on its way to the disk would be charged to eventd's first commit. */
function settle(file: string): void {
  const fd = openSync(file, 'r+');
  fsyncSync(fd);
  closeSync(fd);
}

async function measure(prepare: ((events: string) => void) | null): Promise<number[]> {
  const world = new EventdWorld({ cpus: CPUS, capacity: 4 << 20 });
  try {
    prepare?.(world.events);
    const times: number[] = [];
    for (let run = 0; run < Number(values.runs); run++) {
      const daemon = world.spawn();
      times.push(await daemon.ready);
      const { code } = await daemon.end();
      if (code !== 0) throw new Error(`eventd ended with ${code}: ${daemon.stderr}`);
    }
    return times.sort((a, b) => a - b);
  } finally {
    await world.close();
  }
}

const events = Number(values.events);
const limit = Number(values['limit-ms']);
const cases = {
  'empty store': null,
  [`${events} events of this boot`]: (directory: string) => fillStore(directory, BOOT_A, events),
  [`${events} events of an older boot`]: (directory: string) => fillStore(directory, BOOT_B, events),
};
let good = true;
const rows: (string | number)[][] = [];
for (const [name, prepare] of Object.entries(cases)) {
  const times = await measure(prepare);
  const median = times[times.length >> 1] ?? Number.NaN;
  if (!(median < limit)) good = false;
  rows.push([name, Math.round(times[0] ?? 0), Math.round(median), Math.round(times.at(-1) ?? 0), limit]);
}
console.log(table(['spawn to READY=1', 'min ms', 'median ms', 'max ms', 'limit ms'], rows));
process.exitCode = good ? 0 : 1;
