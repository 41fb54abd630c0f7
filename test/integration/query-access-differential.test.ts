/**
 * Random descriptors, random questions: what a caller gets of the full stores is what everybody would get of
 * stores without the records and fields that it may not see. Message by message, errors included.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { EmbeddedCaller } from '../../src/access/embeddedCaller.js';
import { fieldGuid } from '../../src/access/fieldGuid.js';
import type { SecurityPatterns } from '../../src/access/securityPatterns.js';
import { formatPlainGuid } from '../../src/host/guid.js';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { FakeSecurity, patternsOf, tell, tokenOf, userToken } from '../fixtures/access.js';
import { type EventRow, writeShard } from '../fixtures/eventShards.js';
import { series, since, write as writeMetrics } from '../fixtures/metricService.js';
import { makeStore, startService, type TestStore } from '../fixtures/queryService.js';
import { type Answer, ask } from '../fixtures/rawQueryClient.js';
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
/** Header fields that a record may be without, so that the other store can be. */
const SEQUENCE = ['sequence', 'effective_token_guid', 'true_token_guid'];
const FIELD_RULES: readonly Rule[] = [
  ['x'],
  ['y'],
  ['src.name'],
  ['x', 'src.port'],
  ['src'],
  ['cpu_id'],
  ['origin_class', 'process_guid', 'y'],
  SEQUENCE,
].map((names) => ({ sddl: without(...names), hides: () => names }));

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

/** What a query cannot be answered by without telling the values of these (QX-6). */
type Rest = readonly [text: string, ...revealing: string[]];

const ALWAYS = since(NOW - 3600, NOW + 3600);
const EVENT_CLAUSES = {
  pattern: ['', 'a', 'a.*', '*.b', 'b*', 'c.x', 'nothing'],
  /** With the oldest and the newest age in s. */
  time: [
    ['', 3600, -3600],
    [ALWAYS, 3600, -3600],
    [since(NOW - 150, NOW - 30), 150, 31],
  ] as const,
  where: [
    '',
    'WHERE x == 1',
    'WHERE x != 1',
    'WHERE y IS NULL',
    'WHERE x IS NOT NULL AND y CONTAINS "o"',
    'WHERE y == "one" OR src.name == "n1"',
    'WHERE src.port IN (1, 2) OR x > 2',
    'WHERE event_type STARTS_WITH "a"',
    'WHERE cpu_id == 1 OR sequence < 10',
    'WHERE sequence != 3 AND origin_class == 0',
    'WHERE cpu_id IS NULL OR process_guid IS NULL',
  ],
  cross: ['', '', 'LOG sshd EXISTS', 'LOG cron CONTAINING "e" EXISTS', 'METRIC cpu > 50', 'METRIC *[] > 90'],
  rest: [
    [''],
    ['TAKE 3'],
    ['SKIP 2 TAKE 2'],
    ['SELECT x, src.name, timestamp, src'],
    ['SELECT cpu_id, sequence, y'],
    ['COUNT'],
    ['COUNT BY event_type', 'event_type'],
    ['COUNT BY x', 'x'],
    ['COUNT BY cpu_id', 'cpu_id'],
    ['TOP 2 BY y', 'y'],
    ['TOP 1 BY origin_class', 'origin_class'],
    ['DISTINCT src.name', 'src.name'],
    ['DISTINCT process_guid', 'process_guid'],
    ['GROUP event_type SUM x', 'event_type', 'x'],
    ['GROUP y COUNT SORT y', 'y'],
    ['MAX sequence', 'sequence'],
    ['SORT x', 'x'],
    ['SORT y DESC, sequence TAKE 3', 'y', 'sequence'],
    ['SORT cpu_id, timestamp SKIP 1 TAKE 4', 'cpu_id', 'timestamp'],
  ] as readonly Rest[],
};
const LOG_CLAUSES = {
  from: ['', 'FROM sshd', 'FROM cron, a.b', 'FROM nobody'],
  where: ['', 'ERROR ONLY', 'CONTAINING "e"', 'WHERE origin != "cron"'],
  cross: ['', 'WHERE EVENT b* EXISTS', 'WHERE EVENT a.b EXISTS', 'WHERE METRIC cpu.load > 40'],
  rest: ['', 'TAKE 2', 'COUNT', 'COUNT BY origin', 'TOP 1 BY message', 'SORT message', 'SELECT message'],
};
const METRIC_QUERIES = [
  'METRIC *',
  'METRIC cpu*[]',
  'METRIC cpu',
  `METRIC * ${ALWAYS} MAX`,
  `METRIC *[] ${ALWAYS} TAKE 4`,
  `METRIC a.b[] ${ALWAYS} SORT value DESC`,
  `METRIC * ${ALWAYS} WHERE value > 20 AVG`,
  `METRIC *[] ${ALWAYS} WHERE EVENT b* EXISTS`,
  `METRIC mem ${ALWAYS} WHERE LOG sshd EXISTS AVG`,
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

/** Patterns that may have a descriptor of their own. */
const NAMED = {
  events: ['a', 'a.b', 'b', 'c', 'c.y'],
  logs: ['sshd', 'cron', 'a'],
  metrics: ['cpu', 'cpu.load', 'a'],
} as const;

type Policies = Readonly<Record<'events' | 'logs' | 'metrics', Policy>>;

function policiesOf(draw: Draw): Policies {
  const policy = (names: readonly string[], rules: readonly Rule[]): Policy => {
    const patterns = new Map([['*', draw.of(RULES)]]);
    for (const name of names) if (draw.chance(0.5)) patterns.set(name, draw.of(rules));
    return { patterns };
  };
  return {
    events: policy(NAMED.events, [...RULES, ...FIELD_RULES]),
    logs: policy(NAMED.logs, RULES),
    metrics: policy(NAMED.metrics, RULES),
  };
}

interface Contents {
  readonly events: readonly (EventRow & {
    readonly type: string;
    readonly shard: number;
    readonly payload: Payload;
  })[];
  readonly logs: readonly (LogLine & { readonly origin: string })[];
  readonly metrics: readonly { readonly name: string; readonly samples: readonly [number, number][] }[];
}

function contentsOf(draw: Draw): Contents {
  return {
    events: Array.from({ length: 40 }, (_, i) => ({
      timestamp: ago(200 - i * 5),
      type: draw.of(TYPES),
      sequence: BigInt(i),
      shard: i % 2,
      cpu: draw.below(3),
      origin: draw.below(2),
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

/** An event without these header fields; `sequence` takes the tokens with it. */
function bare<Row extends EventRow>(row: Row, hides: readonly string[]): Row {
  return {
    ...row,
    ...(hides.includes('cpu_id') ? { cpu: null } : {}),
    ...(hides.includes('origin_class') ? { origin: null } : {}),
    ...(hides.includes('process_guid') ? { process: null } : {}),
    ...(hides.includes('sequence') ? { sequence: null } : {}),
  };
}

/** The contents as they are for somebody who has never heard of what these policies hide. */
function visibleTo(contents: Contents, policies: Policies): Contents {
  const isShown = (type: keyof Policies) => (name: string) => hidden(policies[type], name) !== 'all';
  return {
    events: contents.events.flatMap((row) => {
      const hides = hidden(policies.events, row.type);
      return hides === 'all' ? [] : [{ ...bare(row, hides), payload: reduced(row.payload, hides) }];
    }),
    logs: contents.logs.filter(({ origin }) => isShown('logs')(origin)),
    metrics: contents.metrics.filter(({ name }) => isShown('metrics')(name)),
  };
}

function write(t: TestContext, contents: Contents): TestStore {
  const store = makeStore(t);
  // Two databases, as two shards would have it.
  for (const shard of [0, 1]) {
    const rows = contents.events.filter((row) => row.shard === shard);
    writeShard(store.directory, `shard-000${shard}.db`, rows);
  }
  new LiveLogs(t, store.directory, CommitFeed.allocate()).commit(contents.logs);
  writeMetrics(
    store,
    contents.metrics.map(({ name, samples }) => series(name, { core: '0' }, 1, samples)),
  );
  return store;
}

interface Question {
  readonly text: string;
  /** Whether a record of this type and age in s is what the selector and the time range ask for. */
  readonly concerns: (type: string, age: number) => boolean;
  readonly revealing: readonly string[];
}

function questionOf(draw: Draw): Question {
  const kind = draw.below(10);
  const words = (...parts: readonly string[]) => parts.filter((part) => part !== '').join(' ');
  const harmless = (text: string): Question => ({ text, concerns: () => false, revealing: [] });
  if (kind < 2) return harmless(draw.of(METRIC_QUERIES));
  if (kind < 4) {
    const { from, where, cross, rest } = LOG_CLAUSES;
    const other = draw.of(cross);
    const when = other === '' ? '' : ALWAYS;
    const clauses = other === '' ? draw.of(where) : other;
    return harmless(words('LOGS', draw.of(from), when, clauses, draw.of(rest)));
  }
  const { pattern, time, where, cross, rest } = EVENT_CLAUSES;
  const other = draw.of(cross);
  const name = draw.of(pattern);
  const [when, oldest, newest] = other === '' ? draw.of(time) : time[1];
  const [end, ...revealing] = draw.of(rest);
  const matches = new RegExp(`^${name.replaceAll('.', '\\.').replaceAll('*', '.*')}$`, 'i');
  return {
    text: words('EVENTS', name, when, other === '' ? draw.of(where) : `WHERE ${other}`, end),
    concerns: (type, age) => (name === '' || matches.test(type)) && age <= oldest && age >= newest,
    revealing,
  };
}

/** The field a query must be refused for, as one of what it may show is hidden in its result (ACL-33, ACL-34). */
function refusedFor(question: Question, { events }: Contents, policy: Policy): string | null {
  const hides = events
    .filter(({ type, timestamp }) => question.concerns(type, NOW - Number(timestamp / SECOND)))
    .map(({ type }) => hidden(policy, type));
  const isHidden = (field: string) => hides.some((names) => names !== 'all' && covers(names, field));
  return question.revealing.find(isHidden) ?? null;
}

const PHASES = 2;
const ROUNDS = 4;
const QUESTIONS = 26;

test('[ACL-1] [ACL-29] [ACL-31] [ACL-32] [ACL-33] [ACL-34] [ACL-37] [ACL-46] [ACL-51] [QX-5] [QX-6] [QL-118] [WIRE-21] denied is the same as not there, and so is what is denied from now on', async (t) => {
  let refused = 0;
  let shown = 0;
  const errors = new Set<string>();
  for (let round = 0; round < ROUNDS; round++) {
    const draw = drawing(round + 1);
    const contents = contentsOf(draw);
    const security = new FakeSecurity();
    const patterns = await patternsOf(security);
    const full = write(t, contents);
    const restricted = await startService(t, full, {
      callers: () => new EmbeddedCaller(userToken(), null),
      patterns,
    });
    for (let phase = 0; phase < PHASES; phase++) {
      const policies = policiesOf(draw);
      edit(security, patterns, policies);
      const rest = write(t, visibleTo(contents, policies));
      const free = await startService(t, rest, {
        callers: () => new EmbeddedCaller(tokenOf('SY', []), null),
      });
      for (let i = 0; i < QUESTIONS; i++) {
        const question = questionOf(draw);
        const where = `round ${round}, phase ${phase}: ${question.text}`;
        const answer = await ask(full.socketPath, question.text);
        const field = refusedFor(question, contents, policies.events);
        if (field !== null) {
          const error = `access denied: the result cannot be grouped, sorted or aggregated by ${field}`;
          assert.deepEqual(answer.messages, [{ status: 'error', error }], where);
          refused++;
          continue;
        }
        const expected = await ask(rest.socketPath, question.text);
        assert.deepEqual(withoutNulls(answer.messages), withoutNulls(expected.messages), where);
        shown += answer.records.length;
        if (answer.error !== null) errors.add(`${question.text}: ${answer.error}`);
      }
      await free.stop();
    }
    await restricted.stop();
    assert.deepEqual(full.log, []);
  }
  assert.deepEqual([...errors], []);
  assert.ok(refused > 5 && shown > 150, `${refused} refused, ${shown} records`);
});

/** Puts these descriptors in the place of those that are there. */
function edit(security: FakeSecurity, patterns: SecurityPatterns, policies: Policies): void {
  const gone = (['events', 'logs', 'metrics'] as const).flatMap((type) =>
    NAMED[type].map((pattern) => security.remove(`${type}\\${pattern}`)),
  );
  const set = Object.entries(policies).flatMap(([type, policy]) =>
    [...policy.patterns].map(([pattern, { sddl }]) => security.set(`${type}\\${pattern}`, sddl)),
  );
  tell(patterns, ...gone, ...set);
}

/** A header field that is hidden is missing; the other store cannot but say NULL. */
function withoutNulls(messages: Answer['messages']): unknown {
  return messages.map((message) =>
    message.status === 'ok'
      ? message.records.map((record) =>
          Object.fromEntries(
            Object.entries(record).filter(([key, value]) => value !== null || !HEADER.has(key)),
          ),
        )
      : message,
  );
}

const HEADER: ReadonlySet<string> = new Set(['cpu_id', 'origin_class', 'process_guid', ...SEQUENCE]);

function covers(names: readonly string[], field: string): boolean {
  return names.some((name) => field === name || field.startsWith(`${name}.`) || name.startsWith(`${field}.`));
}
