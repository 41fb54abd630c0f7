import { after, test } from 'node:test';
import type { AnyMachineSnapshot } from 'xstate';
import { daemonMachine, MAX_RECOVERIES, RECOVERY_WINDOW_MS } from '../../machines/daemon.js';
import { Coverage } from './coverage.js';
import { chained, pathOf } from './daemonChains.js';
import { DaemonDriver } from './daemonDriver.js';
import {
  type Break,
  broken,
  change,
  done,
  failed,
  leafOf,
  PHASES,
  RECOVERY,
  reload,
  STEPS,
  stop,
} from './daemonEvents.js';
import { type ModelEvent, memoryDirectory, pathsOf, type Step, walkAll } from './walk.js';

const INSTEAD = 'injected instead of its work';
const AFTERWARDS = 'injected after its work';

/** Why a phase or step fails; the driver makes it so. Injected where nothing in the world can. */
const CAUSES: Readonly<Record<string, readonly string[]>> = {
  configuring: ['no EventStorePath', 'malformed boot id', 'no ring'],
  openingStores: ['a file where the directory should be'],
  resolvingBoot: ['the directory is gone'],
  attachingKmes: [INSTEAD],
  bindingSockets: ['a live listener'],
  startingActors: ['a shard that is no database'],
  announcingReady: [INSTEAD],
  quietly: [INSTEAD],
  announced: [INSTEAD],
  closingPath: [AFTERWARDS],
  reopeningStores: ['a file where the directory should be'],
  resolvingAgain: ['the directory is gone'],
  reattachingKmes: ['no ring'],
  restartingActors: ['a shard that is no database'],
  closingSockets: [AFTERWARDS],
  drainingRings: ['a locked shard'],
  committing: ['a locked shard'],
  recordingShutdown: ['a locked shard'],
  closingStores: [AFTERWARDS],
  releasingRings: [AFTERWARDS],
  undoing: [AFTERWARDS],
};

const BREAKS: readonly Break[] = [
  'a damaged page',
  'a shard cut short',
  'a shard removed',
  'a shard removed without its WAL',
  'a dead writer',
  'a dead readers’ thread',
];
const damaged = broken('a damaged page');
const dead = broken('a dead writer');

const failures = (leaf: string): ModelEvent[] => (CAUSES[leaf] ?? []).map((cause) => failed(leaf, cause));

/** What can happen to a daemon in a state. Its path can break as long as there is one. */
function possible({ value, context }: AnyMachineSnapshot): ModelEvent[] {
  const leaf = leafOf(value);
  const breaks = context.breaks.length as number;
  const over = context.stopping || context.failure !== null;
  if (PHASES.includes(leaf)) {
    if (over || breaks > 0) return [done(leaf)];
    const news = leaf === 'resolvingBoot' && !context.changed ? [change, reload] : [];
    const running = leaf === 'startingActors' || leaf === 'announcingReady' ? [damaged] : [];
    return context.changed ? [done(leaf)] : [done(leaf), ...failures(leaf), stop, ...news, ...running];
  }
  if (leaf === 'ready')
    return breaks > 0 ? [stop] : [stop, change, reload, ...BREAKS.map((cause) => broken(cause))];
  if (leaf === 'quietly' || leaf === 'announced') {
    if (breaks > 0) return [done(leaf)];
    return [done(leaf), ...failures(leaf), stop, damaged, ...(context.changed ? [] : [change])];
  }
  if (RECOVERY.includes(leaf)) {
    if (over) return [done(leaf)];
    if (!context.announced || context.changed) return [done(leaf)];
    const other = breaks === 0 ? [damaged] : [];
    const more = { closingPath: [stop, change, ...other], resolvingAgain: [stop], restartingActors: [stop] };
    const again = leaf === 'restartingActors' && breaks === 0 ? [damaged] : [];
    return [done(leaf), ...failures(leaf), ...(more[leaf as keyof typeof more] ?? []), ...again];
  }
  if (STEPS.includes(leaf)) {
    if (context.failure !== null) return [done(leaf)];
    return [
      done(leaf),
      ...failures(leaf),
      ...(leaf === 'closingSockets' ? [change, reload, stop, damaged] : []),
    ];
  }
  return leaf === 'undoing' ? [done(leaf), ...failures(leaf)] : [];
}

function walks(): Step[][] {
  return pathsOf(daemonMachine, {
    events: possible,
    project: ({ value, context }) => {
      const leaf = leafOf(value);
      const ending = STEPS.includes(leaf) || leaf === 'undoing';
      return [
        context.failure !== null,
        context.stopping,
        !ending && [context.changed, context.announce, context.announced, Math.min(context.breaks.length, 2)],
      ];
    },
  });
}

const START = PHASES.map(done);
const RECOVER = RECOVERY.map(done);
const recoveries = (count: number, events: readonly ModelEvent[]): ModelEvent[] =>
  Array.from({ length: count }, () => events).flat();

const coverage = new Coverage(daemonMachine);
const root = memoryDirectory();
after(() => {
  delete process.env.PEIOS_BOOT_ID;
});

const walkEach = (paths: readonly Step[][]): Promise<void> =>
  walkAll(paths, (path) => new DaemonDriver(root, coverage, path));
const walk = (path: Step[]): Promise<void> => walkEach([path]);

test('[LIFE-101][LIFE-104][LIFE-108][LIFE-125][LIFE-126][LIFE-130][LIFE-131][LIFE-132][LIFE-133][LIFE-138][LIFE-140][LIFE-141][LIFE-142][LIFE-200][LIFE-201][LIFE-203][LIFE-204][LIFE-205][LIFE-206][LIFE-207][LIFE-208][LIFE-231][FAIL-13][FAIL-15][FAIL-16][FAIL-18][FAIL-20] on every path the store holds what the phases and steps have done, and an ended daemon leaves nothing behind', async (t) => {
  const paths = walks();
  const chains = chained(paths);
  await walkEach(chains);
  t.diagnostic(`${paths.length} paths, ${chains.length} daemons`);
});

const toReady = START;
const toAnnouncing = START.slice(0, -1);
const toStarting = START.slice(0, -2);
const FOURTH: Readonly<Record<string, readonly ModelEvent[]>> = {
  ready: [...toReady, ...recoveries(MAX_RECOVERIES, [dead, ...RECOVER]), dead],
  reloading: [...toReady, ...recoveries(MAX_RECOVERIES, [dead, ...RECOVER]), change, dead],
  announcingReady: [...toAnnouncing, ...recoveries(MAX_RECOVERIES, [dead, ...RECOVER]), dead],
  restartingActors: [
    ...toReady,
    dead,
    ...recoveries(MAX_RECOVERIES - 1, [...RECOVER.slice(0, -1), dead]),
    ...RECOVER.slice(0, -1),
    dead,
  ],
};

for (const [state, events] of Object.entries(FOURTH)) {
  test(`[FAIL-13][FAIL-18][FAIL-19][LIFE-200] the fourth break within the window, found while ${state}, ends the daemon as failed`, async () => {
    await walk(pathOf(events));
  });
}

test('[FAIL-13][FAIL-15][FAIL-18] shards that are excluded one after the other never end the daemon', async () => {
  await walk(pathOf([...toReady, ...recoveries(MAX_RECOVERIES + 2, [damaged, ...RECOVER])]));
});

test('[FAIL-13][FAIL-18] breaks further apart than the window never end the daemon', async () => {
  const breaks = Array.from({ length: MAX_RECOVERIES + 2 }, (_, i) =>
    broken('a dead writer', { afterMs: RECOVERY_WINDOW_MS, atMs: (i + 1) * RECOVERY_WINDOW_MS }),
  );
  await walk(pathOf([...toReady, ...breaks.flatMap((found) => [found, ...RECOVER])]));
});

test('[LIFE-126][LIFE-138][LIFE-200] a stop does not wait for the startup record, and readiness is not signalled behind it', async () => {
  await walk(pathOf([...toAnnouncing, { ...stop, underWay: true }]));
});

test('[LIFE-126][LIFE-130][LIFE-138] readiness is signalled once where a break comes between the startup record and its announcement', async () => {
  const found = broken('a damaged page', { recordUnderWay: true });
  const path = pathOf([...toAnnouncing, found, ...RECOVER, done('announcingReady')]);
  await walk(path);
});

test('[LIFE-121][LIFE-122][LIFE-126][LIFE-131][FAIL-15] a shard found damaged before the log and metric threads have started ends no start, and readiness waits for them', async () => {
  const found = broken('a damaged page', { whileStarting: true });
  const attached = { ...done('reattachingKmes'), tellsPath: true };
  const restarted = { ...done('restartingActors'), startsRecords: true };
  const recovered = [...RECOVER.slice(0, -2), attached, restarted];
  const path = pathOf([...toStarting, found, ...recovered, done('announcingReady')]);
  await walk(path);
});

test('[FAIL-11][FAIL-13][FAIL-16] a shard whose damage shows in its last commit is excluded by the same recovery and reported once', async () => {
  const closing = { ...done('closingPath'), secondBreak: true };
  await walk(pathOf([...toReady, damaged, closing, ...RECOVER.slice(1)]));
});

test('[LIFE-142] a change that is applied while the path is down is on record once it works', async () => {
  const later = broken('a damaged page', { endsLater: true });
  const closing = { ...done('closingPath'), thenEnds: 'quietly' };
  const path = pathOf([...toReady, change, later, closing, ...RECOVER.slice(1)]);
  await walk(path);
});

test('[LIFE-142][ING-71] the record of a change that meets a damaged shard is stored once the path works', async () => {
  const found = broken('a damaged page', { byChange: true });
  await walk(pathOf([...toReady, change, found, ...RECOVER]));
});

test('[LIFE-131][LIFE-200] the walks entered every state of the daemon and took every transition', (t) => {
  t.diagnostic(coverage.close());
});
