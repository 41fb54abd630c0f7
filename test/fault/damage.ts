/** Ways to damage shard files, and what must be true of the bad file and of the others afterwards. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { SHARD_PAGE_SIZE } from '../../src/stores/shardSchema.js';
import { type EventdRun, type EventdWorld, eventually } from '../fixtures/eventd.js';
import { failuresOf } from './failedCommits.js';

export const shardName = (shard: number): string => `shard-${String(shard).padStart(4, '0')}.db`;
export const shardPath = (world: EventdWorld, shard: number): string => join(world.events, shardName(shard));

/** Bytes of a shard's database and WAL; equal prints mean that nobody has written either. */
export function fingerprint(world: EventdWorld, shard: number): Record<string, string> {
  return Object.fromEntries(
    ['', '-wal'].map((suffix) => {
      const path = `${shardPath(world, shard)}${suffix}`;
      // An empty WAL, or none, says the same: the database is all there is.
      const bytes = existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
      return [suffix, createHash('sha256').update(bytes).digest('hex')];
    }),
  );
}

/**
 * Which pages to damage. The first holds header and schema; the third and fourth are `metadata` and its
 * index in a shard that eventd has made; the lowest of
 * the others hold the oldest rows.
 */
const PAGES = {
  'every page': () => true,
  'all but the first': (page: number) => page > 1,
  events: (page: number) => page === 2 || page > 4,
  'the oldest rows': (page: number, pages: number) => page > 5 && page < pages / 4,
} as const;

/** Overwrites pages of a shard with nonsense. */
export function overwritePages(path: string, which: keyof typeof PAGES): void {
  const pages = Math.floor(statSync(path).size / SHARD_PAGE_SIZE);
  const fd = openSync(path, 'r+');
  let damaged = 0;
  for (let page = 1; page <= pages; page++) {
    if (!PAGES[which](page, pages)) continue;
    writeSync(fd, Buffer.alloc(SHARD_PAGE_SIZE, 0xee), 0, SHARD_PAGE_SIZE, (page - 1) * SHARD_PAGE_SIZE);
    damaged++;
  }
  closeSync(fd);
  assert.ok(damaged > 0, `${path} has ${pages} pages`);
}

/**
 * Moves everything from the WAL of an idle shard into its database and makes every connection to it read
 * its pages again, as if memory had been short.
 */
export function settleShard(world: EventdWorld, shard: number): void {
  const db = new Database(shardPath(world, shard));
  try {
    db.pragma('user_version = 1');
    const [state] = db.pragma('wal_checkpoint(TRUNCATE)') as { busy: number }[];
    assert.equal(state?.busy, 0, 'the shard is not idle');
  } finally {
    db.close();
  }
}

/** Moves bad files out of the event store, so that the account is that of the others. */
export function setAside(world: EventdWorld, ...shards: number[]): void {
  const aside = join(world.dir, 'aside');
  mkdirSync(aside, { recursive: true });
  for (const shard of shards) {
    for (const suffix of ['', '-wal', '-shm', '.excluded']) {
      const path = `${shardPath(world, shard)}${suffix}`;
      if (existsSync(path)) renameSync(path, join(aside, `${shardName(shard)}${suffix}`));
    }
  }
}

/** Log entries at level error that name a shard as not written. */
export function exclusionsIn(run: EventdRun): string[] {
  return run.log().flatMap(({ level, msg }) => {
    const text = String(msg);
    return level === 50 && text.includes('is not written') ? [text] : [];
  });
}

/** Times the event path was started again in this run. */
export function recoveriesOf(run: EventdRun): number {
  return run.log().filter(({ msg }) => String(msg).startsWith('the event path works again')).length;
}

/** Slow enough to leave the processor to eventd. */
const EMIT_EVERY_MS = 20;

/** Emits on every CPU until eventd has met the damage of all these shards and works again. */
export async function emitUntilRecovered(
  world: EventdWorld,
  run: EventdRun,
  { cpus, damaged, until = () => true }: { cpus: number; damaged: readonly number[]; until?: () => boolean },
): Promise<void> {
  const met = (shard: number) =>
    failuresOf(run, shard).length > 0 || exclusionsIn(run).some((text) => text.startsWith(`shard ${shard} `));
  let heard = -1;
  await eventually(`the damage of shards ${damaged.join(', ')} met and overcome`, async () => {
    // Parsing the log is dear; only what it says anew can change the answer.
    if (run.stderr.length !== heard) {
      heard = run.stderr.length;
      if (damaged.every(met) && recoveriesOf(run) > 0 && until()) return true;
    }
    for (let cpu = 0; cpu < cpus; cpu++) world.emitMany(cpu, 5);
    await pause(EMIT_EVERY_MS);
    return false;
  }).catch((error: unknown) => {
    throw new Error(`${error instanceof Error ? error.message : error}\n${run.stderr}`);
  });
}
