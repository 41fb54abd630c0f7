/** Cross-type filters over the socket: the whole path of a query against a judge of single records. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Comparison,
  type CrossTerm,
  type CrossWindow,
  holds,
  type World,
  type WorldSeries,
  writeWorld,
} from '../fixtures/crossReference.js';
import { compareNumbers } from '../fixtures/queryReference.js';
import { LIMITS, makeStore, startService } from '../fixtures/queryService.js';
import { ask } from '../fixtures/rawQueryClient.js';

const SECOND = 1_000_000_000n;
const DAY = BigInt(Date.UTC(2026, 4, 1)) * 1_000_000n;
/** A time of the test day, and how the language writes it. */
const at = (second: number): bigint => DAY + BigInt(second) * SECOND;
const clock = (second: number): string =>
  `${new Date(Number(at(second) / 1_000_000n)).toISOString().slice(0, 19)}Z`;

/** Everything happens on half seconds within these, so that many times coincide. */
const SPAN_SECONDS = 120;
const time = fc.integer({ min: 0, max: 2 * SPAN_SECONDS }).map((half) => DAY + (BigInt(half) * SECOND) / 2n);

/** Coarser, since of equal times within a series the later row counts. */
const sampleTime = fc
  .integer({ min: 0, max: SPAN_SECONDS / 5 })
  .map((fifth) => DAY + BigInt(fifth) * 5n * SECOND);

const series = (name: string, labels: string, aside: boolean): fc.Arbitrary<WorldSeries> =>
  fc
    .tuple(
      fc.array(fc.record({ time: sampleTime, value: fc.integer({ min: 0, max: 8 }) }), { maxLength: 14 }),
      fc.boolean(),
    )
    .map(([samples, late]) => {
      // Stored as they came: mostly in order. Only in one database can a later row correct an earlier one.
      const sorted =
        late && !aside ? samples : samples.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
      const distinct = sorted.filter((each, index) => !aside || each.time !== sorted[index - 1]?.time);
      return {
        name,
        labels,
        type: 1 as const,
        samples: distinct,
        ...(aside ? { aside: Math.floor(distinct.length / 2) } : {}),
      };
    });

const world: fc.Arbitrary<World> = fc.record({
  events: fc
    .array(
      fc.record({
        time,
        type: fc.constantFrom('kacs.denied', 'KACS.granted', 'fs.denied', 'fs.open'),
        x: fc.integer({ min: 0, max: 3 }),
        shard: fc.integer({ min: 0, max: 2 }),
      }),
      { minLength: 25, maxLength: 40 },
    )
    .map((list) => list.map((each, id) => ({ ...each, id }))),
  logs: fc
    .array(
      fc.record({
        time,
        origin: fc.constantFrom('loregd', 'LoregD', 'peinit'),
        isError: fc.boolean(),
        text: fc.constantFrom('an Error', 'all well', '100%'),
      }),
      { minLength: 20, maxLength: 30 },
    )
    .map((list) => list.map(({ text, ...rest }, id) => ({ ...rest, message: `${text} #${id}` }))),
  series: fc.tuple(
    series('cpu.usage', 'core=0,host=a', false),
    series('cpu.usage', 'core=1,host=a', false),
    series('CPU.usage', 'core=0,host=b', true),
    series('cpu.idle', '', false),
    series('mem.usage', 'host=a', true),
  ),
});

interface Written {
  readonly text: string;
  readonly judge: (record: Judged) => boolean;
}

/** A record of the primary store, its own predicates, and what cross-type terms say of its time. */
interface Judged {
  readonly own: (index: number) => boolean;
  readonly cross: (term: CrossTerm) => boolean;
}

const COMPARISONS: readonly Comparison[] = ['==', '!=', '>', '>=', '<', '<='];
const limit = fc.constantFrom<readonly [string, number]>(
  ['0', 0],
  ['2', 2],
  ['3.5', 3.5],
  ['4', 4],
  ['0x6', 6],
  ['18446744073709551615', 2 ** 64],
);

const METRICS: readonly (readonly [string, string, Readonly<Record<string, string>> | null])[] = [
  ['cpu.usage', 'cpu.usage', null],
  ['CPU.*', 'CPU.*', null],
  ['*.usage', '*.usage', null],
  ['cpu.usage[]', 'cpu.usage', {}],
  ['cpu.usage[core="0"]', 'cpu.usage', { core: '0' }],
  ['cpu.usage[core="1", host="A"]', 'cpu.usage', { core: '1', host: 'a' }],
  ['*[host="b"]', '*', { host: 'b' }],
  ['no.such', 'no.such', null],
];

const metricTerm: fc.Arbitrary<Written> = fc
  .tuple(
    fc.constantFrom(...METRICS),
    fc.constantFrom(...COMPARISONS, 'IN', 'NOT_IN'),
    fc.array(limit, { minLength: 1, maxLength: 3 }),
  )
  .map(([[shown, name, labels], operator, limits]) => {
    const [first] = limits;
    const listed = (value: number): boolean => limits.some(([, each]) => each === value);
    const passes = (value: number): boolean => {
      if (operator === 'IN') return listed(value);
      if (operator === 'NOT_IN') return !listed(value);
      return compareNumbers(value, operator as Comparison, first?.[1] ?? 0);
    };
    const operand = operator.endsWith('IN') ? `(${limits.map(([text]) => text).join(', ')})` : first?.[0];
    return {
      text: `METRIC ${shown} ${operator} ${operand}`,
      judge: ({ cross }) => cross({ kind: 'metric', name, labels, passes }),
    };
  });

const eventTerm: fc.Arbitrary<Written> = fc
  .constantFrom('kacs.*', '*.denied', 'fs.open', '*', 'none.*')
  .map((pattern) => ({
    text: `EVENT ${pattern} EXISTS`,
    judge: ({ cross }) => cross({ kind: 'event', pattern }),
  }));

const logTerm: fc.Arbitrary<Written> = fc
  .tuple(fc.constantFrom('loregd', 'peinit', 'other'), fc.constantFrom(null, 'error', '%', '#1'))
  .map(([origin, containing]) => ({
    text: `LOG ${origin}${containing === null ? '' : ` CONTAINING "${containing}"`} EXISTS`,
    judge: ({ cross }) => cross({ kind: 'log', origin, containing }),
  }));

function condition(terms: readonly fc.Arbitrary<Written>[], own: readonly string[]): fc.Arbitrary<Written> {
  const predicate = fc
    .nat({ max: own.length - 1 })
    .map((index): Written => ({ text: own[index] ?? '', judge: (record) => record.own(index) }));
  const leaf = fc.oneof({ weight: 3, arbitrary: fc.oneof(...terms) }, { weight: 1, arbitrary: predicate });
  return fc.letrec<{ whole: Written; list: Written }>((tie) => ({
    whole: fc.oneof({ maxDepth: 3 }, leaf, tie('list')),
    list: fc
      .tuple(fc.constantFrom('AND', 'OR'), fc.array(tie('whole'), { minLength: 2, maxLength: 3 }))
      .map(([word, parts]) => ({
        text: `(${parts.map(({ text }) => text).join(` ${word} `)})`,
        judge: (record) =>
          word === 'AND'
            ? parts.every(({ judge }) => judge(record))
            : parts.some(({ judge }) => judge(record)),
      })),
  })).whole;
}

interface Mode {
  readonly head: string;
  readonly condition: fc.Arbitrary<Written>;
  /** The records of the mode with what tells them apart. */
  readonly records: (
    world: World,
  ) => readonly { readonly key: string; readonly time: bigint; readonly own: readonly boolean[] }[];
  readonly keyOf: (record: Readonly<Record<string, unknown>>) => string;
  /** What becomes of the records that are kept, as keys; by default they themselves. */
  readonly fold?: (kept: readonly { readonly key: string }[]) => string[];
}

const MODES: readonly Mode[] = [
  {
    head: 'EVENTS',
    condition: condition([metricTerm, logTerm], ['x > 1', 'event_type CONTAINS "denied"']),
    records: ({ events }) =>
      events.map(({ id, time: when, x, type }) => ({
        key: String(id),
        time: when,
        own: [x > 1, type.includes('denied')],
      })),
    keyOf: (record) => String(record.id),
  },
  {
    head: 'LOGS',
    condition: condition([metricTerm, eventTerm], ['is_error == true', 'origin == "loregd"']),
    records: ({ logs }) =>
      logs.map(({ message, time: when, isError, origin }) => ({
        key: message,
        time: when,
        own: [isError, origin !== 'peinit'],
      })),
    keyOf: (record) => String(record.message),
  },
  {
    head: 'METRIC *[]',
    condition: condition([eventTerm, logTerm], ['value > 3', 'core == "0"']),
    records: ({ series: all }) =>
      all.flatMap(({ name, labels, samples }) =>
        samples.map(({ time: when, value }) => ({
          key: `${name} ${labels} ${when} ${value}`,
          time: when,
          own: [value > 3, labels.includes('core=0')],
        })),
      ),
    keyOf: ({ name, core, host, timestamp, value }) => {
      const labels = [
        core === undefined ? [] : [`core=${core}`],
        host === undefined ? [] : [`host=${host}`],
      ].flat();
      return `${name} ${labels.join(',')} ${timestamp} ${value}`;
    },
  },
];

/** SUM per series: WHERE, and with it the filters, comes before the function (QX-3). */
const SUMS: Mode = {
  head: 'METRIC *[] SUM',
  condition: condition([eventTerm, logTerm], ['value > 3', 'core == "0"']),
  records: MODES[2]?.records ?? (() => []),
  keyOf: ({ name, core, host, value }) => {
    const labels = [
      core === undefined ? [] : [`core=${core}`],
      host === undefined ? [] : [`host=${host}`],
    ].flat();
    return `${name} ${labels.join(',')} ${value}`;
  },
  fold: (kept) => {
    const sums = new Map<string, number>();
    for (const { key } of kept) {
      const [name = '', labels = '', , value] = key.split(' ');
      sums.set(`${name} ${labels}`, (sums.get(`${name} ${labels}`) ?? 0) + Number(value));
    }
    return [...sums].map(([series, sum]) => `${series} ${sum}`);
  },
};

for (const mode of [...MODES, SUMS]) {
  test(`[QL-110, QL-111, QL-112, QL-113, QL-114, QL-115, QX-3, QX-4] ${mode.head} keeps the records for which its filters hold, one by one`, async (t) => {
    for (const [round, sample] of fc.sample(world, { numRuns: 3, seed: 7411 }).entries()) {
      const store = makeStore(t);
      writeWorld(store, sample);
      const service = await startService(t, store);
      const records = mode.records(sample);
      const query = fc.tuple(
        mode.condition,
        fc.integer({ min: -5, max: 60 }),
        fc.integer({ min: -5, max: SPAN_SECONDS }),
        fc.constantFrom(1000, 2500, 15_000, 60_000),
      );
      await fc.assert(
        fc.asyncProperty(query, async ([where, from, length, windowMs]) => {
          // The width in force is that of the settings when the query starts (QX-64).
          service.updateLimits({ ...LIMITS, crossTypeWindowMs: windowMs });
          const window: CrossWindow = {
            since: at(from),
            until: at(from + length),
            window: BigInt(windowMs) * 1_000_000n,
          };
          const text = `${mode.head} SINCE ${clock(from)} UNTIL ${clock(from + length)} WHERE ${where.text}`;
          const kept = records.filter(({ time: when, own }) => {
            if (when < window.since || when >= window.until) return false;
            return where.judge({
              own: (index) => own[index] ?? false,
              cross: (term) => holds(term, when, sample, window),
            });
          });
          const expected = mode.fold?.(kept) ?? kept.map(({ key }) => key);
          const answer = await ask(store.socketPath, text);
          assert.equal(answer.error, null, text);
          assert.deepEqual(answer.records.map(mode.keyOf).sort(), expected.sort(), text);
        }),
        { numRuns: 20, seed: 100 + round },
      );
      await service.stop();
    }
  });
}
