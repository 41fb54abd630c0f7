/**
 * kill -9 at exact instants of a commit, after commits that failed too: what the WAL holds by then may
 * or may not count, but no event is stored twice, or both stored and recorded as lost.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { type EventdRun, EventdWorld } from '../fixtures/eventd.js';
import { type Fault, Faults } from '../fixtures/faults.js';
import { assertAccounted } from './failedCommits.js';

const WAL = { file: '*/shard-0000.db-wal' } as const;

interface Instant {
  readonly when: string;
  /** Commits and gap records that fail in fsync before the program is killed. */
  readonly failedSyncs?: number;
  readonly kill: Pick<Fault, 'operation' | 'after' | 'torn'>;
}

const INSTANTS: readonly Instant[] = [
  { when: 'before the first byte of a commit', kill: { operation: 'write' } },
  { when: 'in the middle of a frame', kill: { operation: 'write', after: 3, torn: true } },
  { when: 'in the fsync of COMMIT', kill: { operation: 'sync' } },
  {
    when: 'behind a COMMIT that failed in fsync, before another byte is written',
    failedSyncs: 1,
    kill: { operation: 'write' },
  },
  {
    when: 'behind a COMMIT that failed in fsync, in a frame of its gap records',
    failedSyncs: 1,
    kill: { operation: 'write', after: 1, torn: true },
  },
  {
    when: 'behind a COMMIT that failed in fsync, in the fsync of its gap records',
    failedSyncs: 1,
    kill: { operation: 'sync' },
  },
  {
    when: 'behind a COMMIT that failed in fsync, in the first commit after its gap records',
    failedSyncs: 1,
    kill: { operation: 'sync', after: 1 },
  },
  {
    when: 'behind gap records that failed in fsync, in their next fsync',
    failedSyncs: 2,
    kill: { operation: 'sync' },
  },
];

/** One history for each number of shards: the start that follows a kill is the one that meets the next. */
interface History {
  readonly shards: number;
  readonly world: EventdWorld;
  readonly faults: Faults;
  run: EventdRun | null;
}

const histories: readonly History[] = [1, 3].map((shards) => ({
  shards,
  world: new EventdWorld({ settings: { StorageShards: shards } }),
  faults: new Faults(),
  run: null,
}));

after(async () => {
  for (const { world, faults } of histories) {
    await world.close();
    faults.close();
  }
});

/** A start, and some events of each CPU stored by it. */
async function startedOn({ world, faults }: History): Promise<EventdRun> {
  const run = await world.start(faults.env);
  for (const cpu of [0, 1]) world.emitMany(cpu, 100);
  for (const cpu of [0, 1]) await world.stored(cpu);
  return run;
}

for (const history of histories) {
  const { shards, world, faults } = history;
  for (const { when, failedSyncs = 0, kill } of INSTANTS) {
    // Without a failed commit in front, one number of shards says it all.
    if (failedSyncs === 0 && shards === 1) continue;
    test(`[FAIL-7] [FAIL-9] [LIFE-221] [LIFE-223] [ING-17] kill -9 ${when}, StorageShards=${shards}: the account is exact`, async () => {
      const run = history.run ?? (await startedOn(history));
      const failed =
        failedSyncs === 0
          ? undefined
          : faults.inject({ ...WAL, operation: 'sync', error: 'EIO', times: failedSyncs });
      const killed = faults.inject({
        ...WAL,
        ...kill,
        error: 'kill',
        ...(failed === undefined ? {} : { behind: failed }),
      });
      let ended = false;
      void run.exited.then(() => {
        ended = true;
      });
      // Events keep coming, so that there is always a next commit.
      while (!ended) {
        world.emitMany(0, 30);
        world.emitMany(1, 30);
        await Promise.race([run.exited, new Promise((resolve) => setTimeout(resolve, 20))]);
      }
      assert.deepEqual(await run.exited, { code: null, signal: 'SIGKILL' }, run.stderr);
      assert.equal(failed?.hits ?? 0, failedSyncs);
      assert.equal(killed.hits, 1);
      faults.clear();
      history.run = await startedOn(history);
      assertAccounted(world, 2);
    });
  }

  test(`[LIFE-223] [ING-17] after all these kills, StorageShards=${shards}, a stop is clean and the account exact`, async () => {
    assert.deepEqual(await history.run?.end(), { code: 0, signal: null });
    assertAccounted(world, 2);
  });
}
