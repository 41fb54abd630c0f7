/**
 * Random descriptors, random questions: what a caller gets of the full stores is what everybody would get of
 * stores without the records and fields that it may not see. Message by message, errors included.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { EmbeddedCaller } from '../../src/access/embeddedCaller.js';
import { fieldGuid } from '../../src/access/fieldGuid.js';
import { formatPlainGuid } from '../../src/host/guid.js';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { FakeSecurity, patternsOf, tokenOf, userToken } from '../fixtures/access.js';
import { type EventRow, writeShard } from '../fixtures/eventShards.js';
import { series, since, write as writeMetrics } from '../fixtures/metricService.js';
import { makeStore, startService, type TestStore } from '../fixtures/queryService.js';
import { ask } from '../fixtures/rawQueryClient.js';
import { LiveLogs, type LogLine } from '../fixtures/streams.js';

const guid = (name: string) => formatPlainGuid(fieldGuid(name));
const SYSTEM = '(A;;0x1;;;SY)';
const OPEN = `O:SYG:SYD:${SYSTEM}(A;;0x1;;;AU)`;
const CLOSED = `O:SYG:SYD:${SYSTEM}`;
const without = (...names: string[]) =>
  `O:SYG:SYD:${SYSTEM}${names.map((name) => `(OD;;0x1;${guid(name)};;AU)`).join('')}(A;;0x1;;;AU)`;
/** Everything but SYSTEM's own, under the condition that the name is this one. */
const only = (name: string) => `O:SYG:SYD:${SYSTEM}(XA;;0x1;;;AU;(Identifier == "${name}"))`;

/** A descriptor and what it hides: everything, some payload fields, or what is not named so. */
interface Rule {
  readonly sddl: string;
  readonly hides: (name: string) => 'all' | readonly string[];
}

const RULES: readonly Rule[] = [
  { sddl: OPEN, hides: () => [] },
  { sddl: `${OPEN}S:(AU;SAFA;0x1;;;WD)`, hides: () => [] },
  { sddl: CLOSED, hides: () => 'all' },
  { sddl: only('a.b'), hides: (name) => (name === 'a.b' ? [] : 'all') },
];
const FIELD_RULES: readonly Rule[] = [['x'], ['y'], ['src.name'], ['x', 'src.port'], ['src']].map(
  (names) => ({
    sddl: without(...names),
    hides: () => names,
  }),
);

const TYPES = ['a', 'a.b', 'a.b.c', 'A.b', 'b', 'bb', 'c.x', 'c.y'];
const ORIGINS = ['sshd', 'cron', 'a.b', 'cron.daily'];
const METRICS = ['cpu', 'cpu.load', 'mem', 'a.b'];
const SECOND = 1_000_000_000n;
const NOW = Math.floor(Date.now() / 1000);
const ago = (seconds: number): bigint => BigInt(NOW - seconds) * SECOND;

interface Policy {
  readonly patterns: ReadonlyMap<string, Rule>;
}

/** The most specific pattern (ACL-7). */
function hidden({ patterns }: Policy, name: string): 'all' | readonly string[] {
  for (let key = name.toLowerCase(); key !== ''; key = key.slice(0, Math.max(0, key.lastIndexOf('.')))) {
    const rule = patterns.get(key);
    if (rule !== undefined) return rule.hides(name.toLowerCase());
  }
  return patterns.get('*')?.hides(name.toLowerCase()) ?? 'all';
}

type Payload = Readonly<Record<string, unknown>>;

function reduced(payload: Payload, hides: readonly string[], prefix = ''): Payload {
  return Object.fromEntries(
    Object.entries(payload).flatMap(([key, value]): [string, unknown][] => {
      const name = prefix + key;
      if (hides.includes(name)) return [];
      if (typeof value !== 'object' || value === null || Object.keys(value).length === 0)
        return [[key, value]];
      const inner = reduced(value as Payload, hides, `${name}.`);
      return Object.keys(inner).length === 0 ? [] : [[key, inner]];
    }),
  );
}

const EVENT_CLAUSES = {
  pattern: ['', 'a', 'a.*', '*.b', 'b*', 'c.x', 'nothing'],
  time: ['', since(NOW - 3600, NOW + 3600), since(NOW - 150, NOW - 30)],
  where: [
    '',
    'WHERE x == 1',
    'WHERE x != 1',
    'WHERE y IS NULL',
    'WHERE x IS NOT NULL AND y CONTAINS "o"',
    'WHERE y == "one" OR src.name == "n1"',
    'WHERE src.port IN (1, 2) OR x > 2',
    'WHERE event_type STARTS_WITH "a"',
  ],
  cross: ['', '', 'LOG sshd EXISTS', 'LOG cron CONTAINING "e" EXISTS', 'METRIC cpu > 50', 'METRIC *[] > 90'],
  rest: [
    '',
    'TAKE 3',
    'SKIP 2 TAKE 2',
    'SELECT x, src.name, timestamp, src',
    'COUNT',
    'COUNT BY event_type',
    'COUNT BY x',
    'TOP 2 BY y',
    'DISTINCT src.name',
    'GROUP event_type SUM x',
    'GROUP y COUNT SORT y',
    'SORT x',
    'SORT y DESC, sequence TAKE 3',
  ],
};
const LOG_CLAUSES = {
  from: ['', 'FROM sshd', 'FROM cron, a.b', 'FROM nobody'],
  where: ['', 'ERROR ONLY', 'CONTAINING "e"', 'WHERE origin != "cron"'],
  cross: ['', 'WHERE EVENT b* EXISTS', 'WHERE EVENT a.b EXISTS'],
  rest: ['', 'TAKE 2', 'COUNT', 'COUNT BY origin', 'TOP 1 BY message', 'SORT message', 'SELECT message'],
};
const ALWAYS = since(NOW - 3600, NOW + 3600);
const METRIC_QUERIES = [
  'METRIC *',
  'METRIC cpu*[]',
  'METRIC cpu',
  `METRIC * ${ALWAYS} MAX`,
  `METRIC *[] ${ALWAYS} TAKE 4`,
  `METRIC a.b[] ${ALWAYS} SORT value DESC`,
  `METRIC * ${ALWAYS} WHERE value > 20 AVG`,
];

/** A small generator: the same numbers in every run. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Draw {
  below(limit: number): number;
  of<Value>(values: readonly Value[]): Value;
  chance(part: number): boolean;
}

function drawing(seed: number): Draw {
  const next = generator(seed);
  return {
    below: (limit) => Math.floor(next() * limit),
    chance: (part) => next() < part,
    of: (values) => {
      const value = values[Math.floor(next() * values.length)];
      assert.ok(value !== undefined);
      return value;
    },
  };
}

type Policies = Readonly<Record<'events' | 'logs' | 'metrics', Policy>>;

function policiesOf(draw: Draw): Policies {
  const policy = (names: readonly string[], rules: readonly Rule[]): Policy => {
    const patterns = new Map([['*', draw.of(RULES)]]);
    for (const name of names) if (draw.chance(0.5)) patterns.set(name, draw.of(rules));
    return { patterns };
  };
  return {
    events: policy(['a', 'a.b', 'b', 'c', 'c.y'], [...RULES, ...FIELD_RULES]),
    logs: policy(['sshd', 'cron', 'a'], RULES),
    metrics: policy(['cpu', 'cpu.load', 'a'], RULES),
  };
}

interface Contents {
  readonly events: readonly (EventRow & { readonly type: string; readonly payload: Payload })[];
  readonly logs: readonly (LogLine & { readonly origin: string })[];
  readonly metrics: readonly { readonly name: string; readonly samples: readonly [number, number][] }[];
}

function contentsOf(draw: Draw): Contents {
  return {
    events: Array.from({ length: 40 }, (_, i) => ({
      timestamp: ago(200 - i * 5),
      type: draw.of(TYPES),
      sequence: BigInt(i),
      payload: {
        ...(draw.chance(0.8) ? { x: draw.below(4) } : {}),
        ...(draw.chance(0.8) ? { y: draw.of(['one', 'two', 'four']) } : {}),
        ...(draw.chance(0.7) ? { src: { name: draw.of(['n1', 'n2']), port: draw.below(3) } } : {}),
      },
    })),
    logs: Array.from({ length: 16 }, (_, i) => ({
      timestamp: ago(200 - i * 12),
      origin: draw.of(ORIGINS),
      isError: draw.chance(0.3),
      message: draw.of(['hello', 'away', 'ten']),
    })),
    metrics: METRICS.map((name) => ({
      name,
      samples: Array.from({ length: 4 }, (_, i) => [NOW - 180 + i * 40, draw.below(100)]),
    })),
  };
}

/** The contents as they are for somebody who has never heard of what these policies hide. */
function visibleTo(contents: Contents, policies: Policies): Contents {
  const isShown = (type: keyof Policies) => (name: string) => hidden(policies[type], name) !== 'all';
  return {
    events: contents.events.flatMap((row) => {
      const hides = hidden(policies.events, row.type);
      return hides === 'all' ? [] : [{ ...row, payload: reduced(row.payload, hides) }];
    }),
    logs: contents.logs.filter(({ origin }) => isShown('logs')(origin)),
    metrics: contents.metrics.filter(({ name }) => isShown('metrics')(name)),
  };
}

function write(t: TestContext, contents: Contents): TestStore {
  const store = makeStore(t);
  // Two databases, as two shards would have it.
  for (const shard of [0n, 1n]) {
    const rows = contents.events.filter(({ sequence }) => (sequence ?? 0n) % 2n === shard);
    writeShard(store.directory, `shard-000${shard}.db`, rows);
  }
  new LiveLogs(t, store.directory, CommitFeed.allocate()).commit(contents.logs);
  writeMetrics(
    store,
    contents.metrics.map(({ name, samples }) => series(name, { core: '0' }, 1, samples)),
  );
  return store;
}

function questionOf(draw: Draw): string {
  const kind = draw.below(10);
  const words = (...parts: readonly string[]) => parts.filter((part) => part !== '').join(' ');
  if (kind === 0) return draw.of(METRIC_QUERIES);
  if (kind < 3) {
    const { from, where, cross, rest } = LOG_CLAUSES;
    const other = draw.of(cross);
    return words('LOGS', draw.of(from), other === '' ? '' : ALWAYS, draw.of(where), other, draw.of(rest));
  }
  const { pattern, time, where, cross, rest } = EVENT_CLAUSES;
  const other = draw.of(cross);
  const when = other === '' ? draw.of(time) : ALWAYS;
  const filter = other === '' ? '' : `WHERE ${other}`;
  return words('EVENTS', draw.of(pattern), when, draw.of(where), filter, draw.of(rest));
}

/** What a query cannot be answered by without telling the values of a field (QX-6). */
const REVEALING = /(?:COUNT BY|TOP 2 BY|DISTINCT|SUM|SORT|GROUP) (x|y|src\.name)\b/;

const ROUNDS = 8;
const QUESTIONS = 30;

test('[ACL-1] [ACL-29] [ACL-31] [ACL-32] [ACL-33] [ACL-37] [ACL-51] [QX-5] [QX-6] [QL-118] [WIRE-21] denied is the same as not there', async (t) => {
  let refused = 0;
  let shown = 0;
  const errors = new Set<string>();
  for (let round = 0; round < ROUNDS; round++) {
    const draw = drawing(round + 1);
    const policies = policiesOf(draw);
    const contents = contentsOf(draw);
    const security = new FakeSecurity();
    for (const [type, { patterns }] of Object.entries(policies)) {
      for (const [pattern, { sddl }] of patterns) security.set(`${type}\\${pattern}`, sddl);
    }
    const full = write(t, contents);
    const rest = write(t, visibleTo(contents, policies));
    const restricted = await startService(t, full, {
      callers: () => new EmbeddedCaller(userToken(), null),
      patterns: await patternsOf(security),
    });
    const free = await startService(t, rest, { callers: () => new EmbeddedCaller(tokenOf('SY', []), null) });
    for (let i = 0; i < QUESTIONS; i++) {
      const question = questionOf(draw);
      const answer = await ask(full.socketPath, question);
      if (answer.error?.startsWith('access denied: ')) {
        const [, field = ''] = REVEALING.exec(question) ?? [];
        const hides = TYPES.map((type) => hidden(policies.events, type));
        assert.ok(
          hides.some((names) => names !== 'all' && covers(names, field)),
          question,
        );
        assert.doesNotMatch(answer.error, /\b(?:a|b|bb|c)\b\./);
        assert.equal(answer.messages.length, 1);
        refused++;
        continue;
      }
      const expected = await ask(rest.socketPath, question);
      assert.deepEqual(answer.messages, expected.messages, `round ${round}: ${question}`);
      shown += answer.records.length;
      if (answer.error !== null) errors.add(`${question}: ${answer.error}`);
    }
    await Promise.all([restricted.stop(), free.stop()]);
    assert.deepEqual(full.log, []);
  }
  assert.deepEqual([...errors], []);
  assert.ok(refused > 5 && shown > 150, `${refused} refused, ${shown} records`);
});

function covers(names: readonly string[], field: string): boolean {
  return names.some((name) => field === name || field.startsWith(`${name}.`) || name.startsWith(`${field}.`));
}
