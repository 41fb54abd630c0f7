/**
 * A daemon's event store under a model-based test, seen from outside: what its shards hold, whether
 * every sequence is there once, and what can go wrong with the files.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { decode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import { exclusionOf } from '../../src/stores/exclusion.js';
import { resolveBoot } from '../../src/stores/resume.js';
import { SHARD_PAGE_SIZE } from '../../src/stores/shardSchema.js';

/** Whoever else writes to a shard waits this long for its writer, ms. */
const PATIENCE_MS = 5000;

/** How often each sequence of a CPU is stored, and inside how many gap records it is. */
interface CpuCounts {
  readonly stored: Map<number, number>;
  readonly gapped: Map<number, number>;
}

interface Row {
  readonly cpu_id: number | null;
  readonly sequence: number | null;
  readonly event_type: string;
  readonly payload: Buffer;
}

export class DaemonStore {
  /** Shards whose rows are beyond reading: what they held is not expected anywhere. */
  readonly #destroyed = new Set<string>();
  #lock: Database.Database | null = null;

  constructor(
    readonly directory: string,
    /** 16 bytes. */
    readonly boot: Uint8Array,
    readonly cpus: number,
  ) {}

  /** Shard files, ascending. */
  get files(): string[] {
    if (!existsSync(this.directory) || !statSync(this.directory).isDirectory()) return [];
    return readdirSync(this.directory)
      .filter((name) => /^shard-\d{4}\.db$/.test(name))
      .sort()
      .map((name) => join(this.directory, name));
  }

  /** Those that no mark keeps from being written. */
  get writable(): string[] {
    return this.files.filter((file) => exclusionOf(file) === null && !this.#destroyed.has(file));
  }

  /** The one that serves the lowest shard, where the daemon's own records go (FAIL-17). */
  get first(): string | undefined {
    const { writable } = this;
    const base = writable.find((file) => Number(/\d{4}/.exec(basename(file))?.[0]) < this.cpus);
    return base ?? writable.find((file) => this.#replaces(file) === '0') ?? writable[0];
  }

  get excluded(): string[] {
    return this.files.filter((file) => exclusionOf(file) !== null);
  }

  /** Payloads of eventd's own rows of a type. */
  synthetic(type: string): Record<string, unknown>[] {
    return this.#own().flatMap((row) =>
      row.event_type === type ? [decode(row.payload) as Record<string, unknown>] : [],
    );
  }

  /** How many rows of its own eventd has stored, by type. */
  tally(): ReadonlyMap<string, number> {
    const tally = new Map<string, number>();
    for (const { event_type: type, payload } of this.#own()) {
      decode(payload);
      tally.set(type, (tally.get(type) ?? 0) + 1);
    }
    return tally;
  }

  count(type: string): number {
    return this.synthetic(type).length;
  }

  /**
   * What is wrong with the account, one line each: a sequence stored or recorded twice, or one below the
   * point where a restart would go on that is neither.
   *
   * @param emitted last sequence per CPU
   */
  problems(emitted: readonly bigint[]): string[] {
    // First the promise, then what must hold it: the writers go on meanwhile.
    const promised = this.#resumePoints();
    const counts = this.#counts();
    return counts.flatMap(({ stored, gapped }, cpu) => {
      const last = Number(emitted[cpu] ?? 0n);
      const found: string[] = [];
      for (const [sequence, times] of stored) {
        if (times > 1) found.push(`cpu ${cpu}: ${sequence} stored ${times} times`);
        if (sequence > last) found.push(`cpu ${cpu}: ${sequence} was never emitted`);
        if (gapped.has(sequence)) found.push(`cpu ${cpu}: ${sequence} stored and recorded as lost`);
      }
      for (const [sequence, times] of gapped) {
        if (times > 1) found.push(`cpu ${cpu}: ${sequence} in ${times} gap records`);
      }
      for (let s = 1; s <= (this.#destroyed.size > 0 ? 0 : (promised[cpu] ?? 0)); s++) {
        if (!stored.has(s) && !gapped.has(s)) found.push(`cpu ${cpu}: ${s} counts as settled and is missing`);
      }
      return found;
    });
  }

  /**
   * Sequences in no row and no gap record, such as `cpu 0: 7`.
   *
   * @param since per CPU, the last sequence of no concern: what a destroyed shard may have held
   */
  missing(emitted: readonly bigint[], since: readonly bigint[] = []): string[] {
    return this.#counts().flatMap(({ stored, gapped }, cpu) => {
      const found: string[] = [];
      for (let s = Number(since[cpu] ?? 0n) + 1; s <= Number(emitted[cpu] ?? 0n); s++) {
        if (!stored.has(s) && !gapped.has(s)) found.push(`cpu ${cpu}: ${s}`);
      }
      return found;
    });
  }

  /** Highest sequence of each CPU, in a row or a gap record. */
  get highest(): Map<number, bigint> {
    return new Map(
      this.#counts().flatMap(({ stored, gapped }, cpu) => {
        const last = Math.max(0, ...stored.keys(), ...gapped.keys());
        return last > 0 ? [[cpu, BigInt(last)] as const] : [];
      }),
    );
  }

  /** Number of sequences that gap records stand for. */
  get gapped(): number {
    return this.#counts().reduce((sum, { gapped }) => sum + gapped.size, 0);
  }

  // What can happen to the files

  /**
   * Breaks the root page of a shard's time index. The table stays readable; the next commit of the
   * writer fails.
   */
  damage(file: string): void {
    const db = new Database(file, { timeout: PATIENCE_MS });
    try {
      this.#emptyWal(db, file);
      const page = db
        .prepare("SELECT rootpage FROM sqlite_master WHERE name = 'idx_events_timestamp'")
        .pluck()
        .get() as number;
      overwrite(file, page);
      // The writer reads a page again only after somebody else has committed.
      db.exec("INSERT OR REPLACE INTO metadata VALUES ('touched', 'yes')");
      db.exec('COMMIT');
    } finally {
      db.close();
    }
  }

  /** Cuts a shard to its first page. */
  cut(file: string): void {
    const db = new Database(file, { timeout: PATIENCE_MS });
    try {
      this.#emptyWal(db, file);
      truncateSync(file, SHARD_PAGE_SIZE);
      db.exec('ROLLBACK');
    } finally {
      this.#destroyed.add(file);
      db.close();
    }
  }

  /** Somebody removes the database, or all of its files. */
  remove(file: string, { wal }: { wal: boolean }): void {
    rmSync(file);
    if (!wal) return;
    for (const suffix of ['-wal', '-shm']) rmSync(`${file}${suffix}`, { force: true });
  }

  /** A WAL without which the rows since the last checkpoint are gone. */
  removeWal(file: string): void {
    const db = new Database(file, { timeout: PATIENCE_MS });
    try {
      // Nothing is in it, so that no row is lost with it: what is tested is who notices.
      this.#emptyWal(db, file);
      rmSync(`${file}-wal`);
      db.exec('ROLLBACK');
    } finally {
      db.close();
    }
  }

  /** The file is no database any more. */
  overwriteByGarbage(file: string): void {
    writeFileSync(file, 'this is no database, whatever its name says. '.repeat(400));
    this.#destroyed.add(file);
  }

  /** A shard that somebody destroyed is of no concern to the account. */
  get anyDestroyed(): boolean {
    return this.#destroyed.size > 0;
  }

  /** The writer of the shard cannot commit until `unlock`. */
  lock(file: string): void {
    this.unlock();
    this.#lock = new Database(file, { timeout: PATIENCE_MS });
    this.#lock.exec('BEGIN IMMEDIATE');
  }

  unlock(): void {
    this.#lock?.exec('ROLLBACK');
    this.#lock?.close();
    this.#lock = null;
  }

  /** Damage under a lock: the writer meets it when `unlock` lets it go on. */
  damageLocked(file: string): void {
    this.damage(file);
    this.lock(file);
  }

  /** Nobody holds a lock or has the file open for writing. */
  checkFree(): void {
    for (const file of this.#readable()) {
      const db = new Database(file, { timeout: 0 });
      try {
        db.exec('BEGIN EXCLUSIVE; ROLLBACK');
      } finally {
        db.close();
      }
    }
  }

  /** Takes the lock with an empty WAL: a commit in between would put good copies of pages into it. */
  #emptyWal(db: Database.Database, file: string): void {
    for (;;) {
      db.pragma('wal_checkpoint(TRUNCATE)');
      db.exec('BEGIN IMMEDIATE');
      if (statSync(`${file}-wal`).size === 0) return;
      db.exec('ROLLBACK');
    }
  }

  #readable(): string[] {
    return this.files.filter((file) => !this.#destroyed.has(file) && statSync(file).size > 0);
  }

  #replaces(file: string): unknown {
    const db = new Database(file, { readonly: true });
    try {
      return db.prepare("SELECT value FROM metadata WHERE key = 'replaces_shard'").pluck().get();
    } finally {
      db.close();
    }
  }

  #own(): Row[] {
    return this.#readable().flatMap((file) => this.#rows(file, 'AND sequence IS NULL'));
  }

  #rows(file: string, condition = ''): Row[] {
    const db = new Database(file, { readonly: true });
    try {
      const made = db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'events'").get();
      if (made === undefined) return [];
      const rows = `SELECT cpu_id, sequence, event_type, payload FROM events NOT INDEXED WHERE boot_id = ? ${condition}`;
      return db.prepare(rows).all(this.boot) as Row[];
    } finally {
      db.close();
    }
  }

  #counts(): CpuCounts[] {
    const counts = Array.from(
      { length: this.cpus },
      (): CpuCounts => ({ stored: new Map(), gapped: new Map() }),
    );
    const add = (map: Map<number, number> | undefined, key: number): void => {
      assert.ok(map !== undefined, 'a CPU that has no ring');
      map.set(key, (map.get(key) ?? 0) + 1);
    };
    for (const file of this.#readable()) {
      for (const { cpu_id: cpu, sequence, event_type: type, payload } of this.#rows(file)) {
        if (cpu !== null && sequence !== null) add(counts[cpu]?.stored, sequence);
        else if (type === 'synthetic.gap') {
          const gap = decode(payload) as Record<'cpu_id' | 'first_missing' | 'last_missing', number>;
          for (let s = gap.first_missing; s <= gap.last_missing; s++) add(counts[gap.cpu_id]?.gapped, s);
        }
      }
    }
    return counts;
  }

  #resumePoints(): number[] {
    if (this.files.length === 0) return [];
    const { cpus } = resolveBoot(this.directory, this.boot);
    return Array.from({ length: this.cpus }, (_, cpu) => Number(cpus.get(cpu)?.sequence ?? 0n));
  }
}

function overwrite(file: string, page: number): void {
  const fd = openSync(file, 'r+');
  writeSync(fd, new Uint8Array(SHARD_PAGE_SIZE).fill(0xff), 0, SHARD_PAGE_SIZE, (page - 1) * SHARD_PAGE_SIZE);
  closeSync(fd);
}
