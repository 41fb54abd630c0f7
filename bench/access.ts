/**
 * What access control costs: all of a store streamed out to a caller who may read everything, with the
 * default descriptors, with descriptors that make eventd look at each type, and to one who sees a part of
 * the types; beside the same store without access control. Exits 1 where it takes more than it may.
 *
 *   node dist/bench/access.js [--events N] [--rounds N]
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { QueryService } from '../actors/query/service.js';
import { AccessSession } from '../src/access/accessSession.js';
import { EmbeddedCaller } from '../src/access/embeddedCaller.js';
import { FakeSecurity, patternsOf, userToken } from '../test/fixtures/access.js';
import { writeManyEvents } from '../test/fixtures/manyEvents.js';
import { LIMITS } from '../test/fixtures/queryService.js';
import { drain } from '../test/fixtures/resultDrain.js';
import { benchOptions } from './options.js';
import { table } from './table.js';

const options = benchOptions({
  events: { type: 'string', default: '1000000' },
  rounds: { type: 'string', default: '3' },
});
const EVENTS = Number(options.events);
const ROUNDS = Number(options.rounds);

/** A result without object ACEs may take so many times what it takes without access control. */
const MOST = 1.3;

const SYSTEM = 'O:SYG:SYD:(A;;0x1;;;SY)';
const OPEN = `${SYSTEM}(A;;0x1;;;AU)`;
const CASES = [
  { name: 'one descriptor', security: { 'Events\\*': OPEN }, share: 1, limited: true },
  {
    name: 'one of several denies',
    security: { 'Events\\*': OPEN, 'Events\\absent': SYSTEM },
    share: 1,
    limited: true,
  },
  { name: 'half the types', security: { 'Events\\*': SYSTEM, ...halfOpen() }, share: 0.5, limited: true },
  {
    name: 'fields told apart',
    security: { 'Events\\*': `${SYSTEM}(OD;;0x1;c0c10b8c-6a5d-52b8-8380-6f5cfd30857f;;AU)(A;;0x1;;;AU)` },
    share: 1,
    limited: false,
  },
] as const;

function halfOpen(): Record<string, string> {
  return Object.fromEntries([0, 2, 4, 6, 8].map((type) => [`Events\\type.${type}`, OPEN]));
}

/** A session that decides nothing: the store as it is. */
const unguarded = Object.assign(Object.create(AccessSession.prototype) as AccessSession, {
  uniformity: async () => 'everything' as const,
  close: () => {},
});

const directory = mkdtempSync(join(tmpdir(), 'eventd-bench-access-'));
try {
  await run();
} finally {
  rmSync(directory, { recursive: true, force: true });
}

async function run(): Promise<void> {
  mkdirSync(join(directory, 'events'));
  writeManyEvents(join(directory, 'events'), 'shard-0000.db', { count: EVENTS, names: 1000, fillBytes: 64 });
  const open = AccessSession.open;
  AccessSession.open = async () => unguarded;
  const free = await serve('free', {});
  await drain(free.path, 'EVENTS TAKE 1');
  AccessSession.open = open;
  const rows: (string | number)[][] = [];
  for (const { name, security, share, limited } of CASES) {
    const guarded = await serve(name.replaceAll(' ', '-'), security);
    const first = await drain(guarded.path, 'EVENTS');
    let ours = Number.POSITIVE_INFINITY;
    let peers = Number.POSITIVE_INFINITY;
    for (let round = 0; round < ROUNDS; round++) {
      const answer = await drain(guarded.path, 'EVENTS');
      assert.equal(answer.records, EVENTS * share);
      ours = Math.min(ours, answer.ms);
      AccessSession.open = async () => unguarded;
      peers = Math.min(peers, (await drain(free.path, 'EVENTS')).ms);
      AccessSession.open = open;
    }
    const ratio = ours / peers;
    rows.push([name, Math.round(first.ms), Math.round(ours), Math.round(peers), ratio.toFixed(2)]);
    if (limited && share === 1 && ratio > MOST) process.exitCode = 1;
    await guarded.service.stop();
  }
  await free.service.stop();
  console.log(table(['descriptors', 'first ms', 'ms', 'without ms', 'ratio'], rows));
}

async function serve(name: string, values: Readonly<Record<string, string>>) {
  const security = new FakeSecurity();
  for (const [path, sddl] of Object.entries(values)) security.set(path, sddl);
  const path = join(directory, `${name}.sock`);
  const service = await QueryService.start({
    socketPath: path,
    eventStorePath: join(directory, 'events'),
    logStorePath: join(directory, 'logs.db'),
    metricStorePath: join(directory, 'metrics.db'),
    limits: { ...LIMITS, queryTimeoutMs: 3_600_000 },
    logger: { info: () => {}, warn: console.error, error: console.error },
    callers: () => new EmbeddedCaller(userToken(), null),
    patterns: await patternsOf(security),
  });
  service.accept();
  return { service, path };
}
