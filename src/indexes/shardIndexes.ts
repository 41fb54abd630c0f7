/** The statements on one shard's secondary indexes; belongs to its writer's connection (IDX-10, IDX-11). */
import type { ShardConnection } from '../stores/shard.js';
import { EVENT_SCHEMA } from '../stores/shardSchema.js';
import { sqliteCode } from '../stores/storeError.js';
import type { BuildSignal } from './buildSignal.js';
import { type IndexStep, leastImportant, nextStep } from './convergence.js';
import {
  createStatement,
  dropStatement,
  type ExistingIndex,
  existingIndex,
  type IndexedField,
} from './fields.js';

/** What each secondary index adds to the writer's page cache, KiB (ADV-6). */
const CACHE_KIB = 1024;

/** How a step went. */
export type StepResult = 'done' | 'disturbed' | 'yielded' | 'pressed';

export class ShardIndexes {
  readonly #db: ShardConnection;
  readonly #slot: number;
  #existing: readonly ExistingIndex[] = [];

  constructor(db: ShardConnection) {
    this.#db = db;
    this.#slot = Number(db.prepare('SELECT eventd_slot()').pluck().get());
    this.#read();
  }

  /** What the shard has, by its schema (IDX-46). The one on `timestamp` is none of them (IDX-25). */
  get existing(): readonly ExistingIndex[] {
    return this.#existing;
  }

  next(desired: readonly IndexedField[]): IndexStep | null {
    return nextStep(this.#existing, desired);
  }

  /**
   * One step that others may end (IDX-12): SQLite takes back what of an index was built.
   *
   * @param isQuiet asked when whoever comes later would end the build already
   */
  converge(step: IndexStep, signal: BuildSignal, patienceMs: number, isQuiet: () => boolean): StepResult {
    signal.begin(this.#slot, patienceMs);
    let result: StepResult = 'done';
    try {
      if (isQuiet()) this.#run(step);
      else result = 'disturbed';
    } catch (error) {
      if (sqliteCode(error) !== 'SQLITE_INTERRUPT') throw error;
      result = 'yielded';
    } finally {
      if (signal.end() === 'pressed' && result === 'yielded') result = 'pressed';
      this.#read();
    }
    return result;
  }

  /** Drops what matters least, or everything (IDX-21, IDX-23). */
  shed(desired: readonly IndexedField[], all: boolean): readonly ExistingIndex[] {
    const least = leastImportant(this.#existing, desired);
    const shed = all ? this.#existing : least === null ? [] : [least];
    try {
      for (const { name } of shed) this.#db.exec(dropStatement(name));
    } finally {
      this.#read();
    }
    return shed;
  }

  #run(step: IndexStep): void {
    this.#db.exec(step.kind === 'drop' ? dropStatement(step.index) : createStatement(step.field));
    // The pages of a whole index lie in the WAL, and the next commit would have to move them.
    if (step.kind === 'create') this.#checkpoint();
  }

  #checkpoint(): void {
    try {
      this.#db.pragma('wal_checkpoint(PASSIVE)');
    } catch {
      // The index is there; the writer's own checkpoint comes to it.
    }
  }

  #read(): void {
    const rows = this.#db
      .prepare(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'events' ORDER BY rowid",
      )
      .raw()
      .all() as [string, string | null][];
    this.#existing = rows.flatMap(([name, sql]) => existingIndex(name, sql) ?? []);
    this.#db.pragma(`cache_size = -${EVENT_SCHEMA.cacheKib + CACHE_KIB * this.#existing.length}`);
  }
}
