/**
 * The world of the retention sweeper under a model-based test: real files of all three stores, rows that
 * are too old, and a ledger of what must be left.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { SWEPT_STORES, type SweptStore } from '../../machines/retentionSweeper.js';
import { LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { EVENT_SCHEMA } from '../../src/stores/shardSchema.js';
import { openStore, type StoreSchema } from '../../src/stores/storeFile.js';
import { withDatabase } from '../fixtures/database.js';

/** The wall clock of the test, ns. */
export const NOW = 2_000_000_000_000_000_000n;
const DAY = 86_400_000_000_000n;
export const BOOT = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
/** More than retention's first batch takes. */
export const OLD_ROWS = 300;
const KEPT_ROWS = 3;
export const SHARDS = 2;

const TABLES: Readonly<Record<SweptStore, { schema: StoreSchema; table: string; insert: string }>> = {
  event: {
    schema: EVENT_SCHEMA,
    table: 'events',
    insert: "INSERT INTO events (boot_id, timestamp, event_type) VALUES (x'00', ?, 'model.event')",
  },
  log: {
    schema: LOG_SCHEMA,
    table: 'logs',
    insert: "INSERT INTO logs (boot_id, timestamp, origin, is_error, message) VALUES (x'00', ?, 'm', 0, 'm')",
  },
  metric: { schema: METRIC_SCHEMA, table: 'samples', insert: 'INSERT INTO samples VALUES (1, ?, 1.5, NULL)' },
};

/** Bytes of a file with nothing but the rows to keep; each of the many worlds begins with copies. */
const templates = new Map<SweptStore, Buffer>();

function templateFor(store: SweptStore, path: string): Buffer {
  const known = templates.get(store);
  if (known !== undefined) return known;
  openStore(path, TABLES[store].schema).close();
  if (store === 'metric') {
    const series = "INSERT INTO series (id, name, labels, type, label_hash) VALUES (1, 'model', '', 1, 0)";
    withDatabase(path, (db) => db.exec(series));
  }
  insertRows(path, store, NOW - DAY, KEPT_ROWS);
  const bytes = readFileSync(path);
  rmSync(path);
  templates.set(store, bytes);
  return bytes;
}

function insertRows(path: string, store: SweptStore, timestamp: bigint, count: number): void {
  withDatabase(path, (db) => {
    db.pragma('synchronous = OFF');
    const insert = db.prepare(TABLES[store].insert);
    db.transaction(() => {
      for (let n = 0; n < count; n++) insert.run(timestamp + BigInt(n));
    })();
  });
}

/** One file, and how many rows it must hold. */
class SweptFile {
  #rows = KEPT_ROWS;
  readonly #table;
  /** Looks into the file after each step. */
  #reader: Database.Database | null = null;

  constructor(
    readonly path: string,
    readonly store: SweptStore,
  ) {
    this.#table = TABLES[store];
    writeFileSync(path, templateFor(store, path));
  }

  close(): void {
    this.#reader?.close();
  }

  get old(): number {
    return this.#count('timestamp < ?', NOW - 30n * DAY);
  }

  addOld(): void {
    insertRows(this.path, this.store, NOW - 35n * DAY, OLD_ROWS);
    this.#rows += OLD_ROWS;
  }

  /** Somebody deletes what retention was to delete. */
  clean(): void {
    this.deleted(this.old);
    withDatabase(this.path, (db) =>
      db.prepare(`DELETE FROM ${this.#table.table} WHERE timestamp < ?`).run(NOW - 30n * DAY),
    );
  }

  /** Retention has deleted so many rows. */
  deleted(rows: number): void {
    this.#rows -= rows;
  }

  /** Every delete fails for as long as `deed` takes. */
  async refusing(deed: () => Promise<void>): Promise<void> {
    const { table } = this.#table;
    const refuse = `CREATE TRIGGER refused BEFORE DELETE ON ${table} BEGIN SELECT RAISE(ABORT, 'refused'); END`;
    withDatabase(this.path, (db) => db.exec(refuse));
    await deed();
    withDatabase(this.path, (db) => db.exec('DROP TRIGGER refused'));
  }

  check(): void {
    assert.equal(this.#count('?', 1n), this.#rows, `rows of ${this.path}`);
  }

  #count(where: string, parameter: bigint): number {
    this.#reader ??= new Database(this.path, { readonly: true });
    const sql = `SELECT count(*) FROM ${this.#table.table} WHERE ${where}`;
    return this.#reader.prepare(sql).pluck().get(parameter) as number;
  }
}

export class RetentionWorld {
  readonly #directory: string;
  readonly events: string;
  readonly #files: Readonly<Record<SweptStore, readonly SweptFile[]>>;

  constructor(root: string) {
    this.#directory = mkdtempSync(join(root, 'retention-'));
    this.events = join(this.#directory, 'events');
    mkdirSync(this.events);
    const shards = Array.from({ length: SHARDS }, (_, shard) => join(this.events, `shard-000${shard}.db`));
    this.#files = {
      event: shards.map((path) => new SweptFile(path, 'event')),
      log: [new SweptFile(join(this.#directory, 'logs.db'), 'log')],
      metric: [new SweptFile(join(this.#directory, 'metrics.db'), 'metric')],
    };
  }

  files(store: SweptStore): readonly SweptFile[] {
    return this.#files[store];
  }

  file(store: SweptStore, index: number): SweptFile {
    const file = this.#files[store][index];
    assert.ok(file !== undefined, `the ${store} store has no file ${index}`);
    return file;
  }

  /** The directory of the event store cannot be listed for as long as `deed` takes. */
  async hiding(deed: () => Promise<void>): Promise<void> {
    renameSync(this.events, `${this.events}.hidden`);
    await deed();
    renameSync(`${this.events}.hidden`, this.events);
  }

  /** Every store holds what the ledger says. */
  check(): void {
    for (const store of SWEPT_STORES) for (const file of this.#files[store]) file.check();
  }

  close(): void {
    for (const store of SWEPT_STORES) for (const file of this.#files[store]) file.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
