/** The databases that writers are writing, as the tail thread reads them. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { LOG_SOURCE } from '../../../src/stores/commitFeed.js';
import { type ReadableFile, ReadConnection } from '../../../src/stores/readConnection.js';
import { shardFileIndex, shardFileName } from '../../../src/stores/shardFiles.js';
import { realPath } from '../../../src/stores/storeFile.js';

export type TailStore = 'events' | 'logs';

const TABLE: Readonly<Record<TailStore, string>> = { events: 'events', logs: 'logs' };

/** Which store a writer's number stands for. */
export function storeOfSource(source: number): TailStore {
  return source === LOG_SOURCE ? 'logs' : 'events';
}

interface Open {
  readonly connection: ReadConnection;
  readonly highest: ReturnType<ReadConnection['prepare']>;
  readonly newest: ReturnType<ReadConnection['prepare']>;
}

/** One connection per database, opened when its first batch is read. Belongs to the tail thread. */
export class TailDatabases {
  readonly #eventStorePath: string;
  readonly #logStorePath: string;
  readonly #open = new Map<number, Open>();

  constructor(paths: { readonly eventStorePath: string; readonly logStorePath: string }) {
    this.#eventStorePath = paths.eventStorePath;
    this.#logStorePath = realPath(paths.logStorePath);
  }

  /** The file a writer of this number writes. */
  pathOf(source: number): string {
    return source === LOG_SOURCE ? this.#logStorePath : join(this.#eventStorePath, shardFileName(source));
  }

  /** Numbers of all databases of a store that a writer may be writing. */
  sources(store: TailStore): number[] {
    if (store === 'logs') return [LOG_SOURCE];
    return readdirSync(this.#eventStorePath).flatMap((name) => shardFileIndex(name) ?? []);
  }

  /** @throws SqliteError, or the file system's error */
  slot(source: number): number {
    return this.#take(source).connection.slot;
  }

  /** @throws SqliteError, or the file system's error */
  connection(source: number): ReadConnection {
    return this.#take(source).connection;
  }

  /** Highest rowid, 0 for an empty table. */
  highest(source: number): bigint {
    return this.#take(source).highest.pluck().get() as bigint;
  }

  /** Newest timestamp of the rows with `after` < id <= `upTo`, ns (STR-25); null if they are gone. */
  newest(source: number, after: bigint, upTo: bigint): bigint | null {
    return this.#take(source).newest.pluck().get(after, upTo) as bigint | null;
  }

  close(): void {
    for (const { connection } of this.#open.values()) connection.close();
    this.#open.clear();
  }

  /** A path may name another file than a moment ago: recovery puts a fresh one in a damaged one's place. */
  #take(source: number): Open {
    const path = this.pathOf(source);
    const file = fileAt(path);
    const known = this.#open.get(source);
    if (known?.connection.file.identity === file.identity) return known;
    known?.connection.close();
    this.#open.delete(source);
    const connection = new ReadConnection(file);
    const table = TABLE[storeOfSource(source)];
    const open = {
      connection,
      highest: connection.prepare(`SELECT ifnull(max(id), 0) FROM ${table}`),
      newest: connection.prepare(`SELECT max(+timestamp) FROM ${table} WHERE id > ? AND id <= ?`),
    };
    this.#open.set(source, open);
    return open;
  }
}

function fileAt(path: string): ReadableFile {
  const { dev, ino } = statSync(path);
  return { path, identity: `${dev}:${ino}` };
}
