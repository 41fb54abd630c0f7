/**
 * The account of one boot, kept up to date row by row: after each kill only what was added since the
 * last look is read. A row is never changed or removed, so nothing is missed by that.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { decode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import type { BootResolution } from '../../src/stores/resume.js';
import { CpuLedger, NO_LOAD } from './cpuLedger.js';
import type { FaultList } from './faults.js';
import { loadEventFault, loadNumber, loadOf } from './payload.js';
import { SENDER_TYPE } from './senders.js';

/** Every so many rows the whole payload is compared, else its number alone. */
const WHOLE_PAYLOAD_EVERY = 61;
/** More than any run emits; what names more is wrong, and must not cost memory. */
const MAX_SEQUENCE = 1e8;
const SHARD_FILE = /^shard-\d+\.db$/;

export interface GapRecord {
  readonly cpu: number;
  readonly first: number;
  readonly last: number;
  readonly cause: string;
}

interface Row {
  readonly id: number;
  readonly boot_id: Buffer;
  readonly cpu_id: number | null;
  readonly sequence: number | null;
  readonly type: string;
  readonly bytes: number | null;
  readonly payload: Buffer | null;
}

export interface SentEvent {
  readonly sender: number;
  readonly ordinal: number;
  readonly cpu: number;
  readonly sequence: number;
}

export class Ledger {
  readonly cpus: readonly CpuLedger[];
  /** Rows up to here belong to what was read before, per file. */
  readonly #read: Map<string, number>;
  #sent: SentEvent[] = [];

  /** @param before rows of earlier boots, per file: see `rowsRead` */
  constructor(
    readonly directory: string,
    readonly boot: Buffer,
    cpus: number,
    readonly faults: FaultList,
    before: ReadonlyMap<string, number> = new Map(),
  ) {
    this.cpus = Array.from({ length: cpus }, (_, cpu) => new CpuLedger(cpu, faults));
    this.#read = new Map(before);
  }

  get rowsRead(): ReadonlyMap<string, number> {
    return this.#read;
  }

  /** Events of senders read since the last call. */
  takeSent(): SentEvent[] {
    const sent = this.#sent;
    this.#sent = [];
    return sent;
  }

  /** Reads the rows added since the last time; returns the gap records among them. */
  update(): GapRecord[] {
    const gaps: GapRecord[] = [];
    for (const name of readdirSync(this.directory).filter((file) => SHARD_FILE.test(file))) {
      const db = new Database(join(this.directory, name), { readonly: true });
      try {
        if (db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'events'").get() === undefined) continue;
        const rows = db
          .prepare(
            `SELECT id, boot_id, cpu_id, sequence, event_type AS type, length(payload) AS bytes,
               CASE WHEN sequence IS NULL OR id % ${WHOLE_PAYLOAD_EVERY} = 0 OR event_type = '${SENDER_TYPE}'
                 THEN payload ELSE substr(payload, 1, 12) END AS payload
             FROM events WHERE id > ? ORDER BY id`,
          )
          .iterate(this.#read.get(name) ?? 0) as IterableIterator<Row>;
        let last = this.#read.get(name) ?? 0;
        for (const row of rows) {
          if (row.id !== last + 1)
            this.faults.add('lost', `${name}: rows ${last + 1}-${row.id - 1} are gone`, 0);
          last = row.id;
          this.#add(name, row, gaps);
        }
        this.#read.set(name, last);
      } finally {
        db.close();
      }
    }
    return gaps;
  }

  /**
   * Compares what a start would believe with what is stored: everything up to the resume point must be
   * accounted for, and above it exactly what the covered ranges say.
   */
  compareResume(resume: BootResolution): void {
    for (const { file, reason } of resume.unreadable) this.faults.add('wrong', `${file}: ${reason}`);
    for (const ledger of this.cpus) {
      const { cpu } = ledger;
      const found = resume.cpus.get(cpu);
      const settled = Number(found?.sequence ?? 0n);
      ledger.expectComplete(settled, 'settled according to the watermarks');
      const highest = ledger.highest();
      const covered = new Set<number>();
      const ranges = [...(found?.covered ?? [])].map(Number);
      for (let i = 0; i < ranges.length; i += 2) {
        for (let sequence = ranges[i] ?? 0; sequence <= (ranges[i + 1] ?? -1); sequence++)
          covered.add(sequence);
      }
      for (const sequence of covered) {
        if (!ledger.has(sequence))
          this.faults.add('lost', `cpu ${cpu}: ${sequence} would be skipped, though it is not stored`);
      }
      for (let sequence = settled + 1; sequence <= highest; sequence++) {
        if (ledger.has(sequence) && !covered.has(sequence))
          this.faults.add('duplicated', `cpu ${cpu}: ${sequence} is stored and would be stored again`);
      }
    }
  }

  #add(file: string, row: Row, gaps: GapRecord[]): void {
    const where = `${file} row ${row.id}`;
    if (!row.boot_id.equals(this.boot)) {
      this.faults.add('wrong', `${where} is of boot ${row.boot_id.toString('hex')}`);
      return;
    }
    if (row.sequence === null) {
      if (row.type === 'synthetic.gap') this.#addGap(where, row, gaps);
      else if (!row.type.startsWith('synthetic.'))
        this.faults.add('wrong', `${where}: ${row.type} without a sequence`);
      return;
    }
    const ledger = this.cpus[row.cpu_id ?? -1];
    if (ledger === undefined || row.sequence < 1) {
      this.faults.add('wrong', `${where}: CPU ${row.cpu_id}, sequence ${row.sequence}`);
      return;
    }
    const payload = row.payload ?? Buffer.alloc(0);
    const load = loadOf(row.type);
    if (load === null) {
      ledger.addEvent(row.sequence, NO_LOAD, 0);
      if (row.type === SENDER_TYPE) {
        const { sender, ordinal } = decode(payload) as { sender: number; ordinal: number };
        this.#sent.push({ sender, ordinal, cpu: ledger.cpu, sequence: row.sequence });
      }
      return;
    }
    const fault =
      load.cpu === ledger.cpu ? loadEventFault(payload, row.bytes ?? 0) : `written to ring ${load.cpu}`;
    if (fault !== null)
      this.faults.add('wrong', `${where}: CPU ${row.cpu_id}, sequence ${row.sequence}: ${fault}`);
    ledger.addEvent(row.sequence, load.run, loadNumber(payload));
  }

  #addGap(where: string, row: Row, gaps: GapRecord[]): void {
    const { cpu_id, first_missing, last_missing, missing_count, cause } = decode(
      row.payload ?? Buffer.alloc(0),
    ) as Record<string, number | string>;
    const gap = {
      cpu: Number(cpu_id),
      first: Number(first_missing),
      last: Number(last_missing),
      cause: String(cause),
    };
    const ledger = this.cpus[gap.cpu];
    if (
      ledger === undefined ||
      gap.first < 1 ||
      Number(missing_count) !== gap.last - gap.first + 1 ||
      gap.last < gap.first ||
      gap.last > MAX_SEQUENCE
    ) {
      this.faults.add('wrong', `${where}: gap record ${JSON.stringify(gap)}`);
      return;
    }
    ledger.addGap(gap.first, gap.last);
    gaps.push(gap);
  }
}
