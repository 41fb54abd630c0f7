/** Random aggregations over random records in several shards, through socket, workers and merge. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  aggregate,
  compareShown,
  type ReferenceAggregation,
  type ReferenceGroup,
  type Shown,
  shownKey,
} from '../fixtures/aggregationReference.js';
import { edit } from '../fixtures/database.js';
import { askExactly, type ExactRecord } from '../fixtures/exactRecords.js';
import { condition, recordArbitrary } from '../fixtures/queryArbitraries.js';
import { matches } from '../fixtures/queryReference.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { writeRecords } from '../fixtures/queryStore.js';

const FIELDS = [
  'x',
  'y',
  'x.y',
  'cpu_id',
  'process_guid',
  'event_type',
  'origin_class',
  'timestamp',
] as const;

const groups = fc.uniqueArray(fc.constantFrom(...FIELDS), { minLength: 1, maxLength: 3 });
const argument = fc.constantFrom(...FIELDS, 'sequence', 'boot_id');
const numeric = fc.constantFrom('SUM', 'AVG', 'MIN', 'MAX');

interface Written {
  readonly text: string;
  readonly value: ReferenceAggregation;
  readonly top: number | null;
}

const written: fc.Arbitrary<Written> = fc.oneof(
  fc.constantFrom(...FIELDS).map(
    (field): Written => ({
      text: `COUNT BY ${field}`,
      value: { groups: [field], function: 'COUNT', argument: null },
      top: null,
    }),
  ),
  fc.tuple(fc.constantFrom(...FIELDS), fc.nat(6)).map(
    ([field, top]): Written => ({
      text: `TOP ${top} BY ${field}`,
      value: { groups: [field], function: 'COUNT', argument: null },
      top,
    }),
  ),
  fc.constantFrom(...FIELDS).map(
    (field): Written => ({
      text: `DISTINCT ${field}`,
      value: { groups: [field], function: 'DISTINCT', argument: null },
      top: null,
    }),
  ),
  groups.map(
    (names): Written => ({
      text: `GROUP ${names.join(', ')} COUNT`,
      value: { groups: names, function: 'COUNT', argument: null },
      top: null,
    }),
  ),
  fc.tuple(fc.option(groups, { nil: [], freq: 4 }), numeric, argument).map(
    ([names, called, field]): Written => ({
      text: `${names.length === 0 ? '' : `GROUP ${names.join(', ')} `}${called} ${field}`,
      value: { groups: names, function: called, argument: field },
      top: null,
    }),
  ),
);

const paging = fc.record({ skip: fc.option(fc.nat(5)), take: fc.option(fc.nat(8)) });

const keyOf = (written: Written): string | null =>
  written.value.function === 'DISTINCT' ? null : written.value.function.toLowerCase();

/** What a SORT names, as positions in a group: its keys, then the value. */
type Order = readonly (readonly [position: number, descending: boolean])[];

function at(group: ReferenceGroup, position: number): Shown {
  return position < group.keys.length ? (group.keys[position] ?? null) : group.value;
}

function byOrder(order: Order): (a: ReferenceGroup, b: ReferenceGroup) => number {
  return (a, b) => {
    for (const [position, descending] of order) {
      const result = compareShown(at(a, position), at(b, position));
      if (result !== 0) return descending ? -result : result;
    }
    return 0;
  };
}

/** What text stands for a value in comparisons: its type, too. */
function spelt(value: unknown): string {
  if (typeof value === 'bigint') return `int ${value}`;
  if (typeof value === 'number') return `float ${Object.is(value, -0) ? '-0' : value}`;
  return value instanceof Uint8Array ? `bytes ${Buffer.from(value).toString('hex')}` : JSON.stringify(value);
}

const spellRecord = (record: ExactRecord): string =>
  Object.entries(record)
    .map(([name, value]) => `${name}=${spelt(value)}`)
    .join(' ');

function expectedRecord(
  { value: { groups: names } }: Written,
  key: string | null,
  group: ReferenceGroup,
): string {
  const keys = names.map((name, index) => `${name}=${spelt(shownKey(name, group.keys[index] ?? null))}`);
  return [...keys, ...(key === null ? [] : [`${key}=${spelt(group.value)}`])].join(' ');
}

test('[QL-45] [QL-64] [QL-66] [QL-67] [QL-69] [QX-23] [QX-24] aggregations over shards agree with brute force', async (t) => {
  const records = fc.sample(recordArbitrary, { numRuns: 300, seed: 20260502 });
  const store = makeStore(t);
  for (let shard = 0; shard < 3; shard++) {
    const own = records.filter((_, index) => (index % 7) % 3 === shard);
    writeRecords(join(store.directory, `shard-000${shard}.db`), own);
  }
  // The policy's indexes ignore case; groups do not.
  edit(
    join(store.directory, 'shard-0001.db'),
    'CREATE INDEX idx_events_event_type ON events(event_type COLLATE NOCASE)',
    'CREATE INDEX idx_events_cpu_id ON events(cpu_id)',
  );
  await startService(t, store);
  const sortOf = (query: Written): fc.Arbitrary<Order> =>
    fc.uniqueArray(
      fc.tuple(fc.nat(query.value.groups.length - (keyOf(query) === null ? 1 : 0)), fc.boolean()),
      { maxLength: 2, selector: ([position]) => position },
    );
  const question = written.chain((query) =>
    fc.record({
      query: fc.constant(query),
      where: fc.option(condition, { freq: 2 }),
      sort: query.value.groups.length === 0 ? fc.constant<Order>([]) : sortOf(query),
      paging,
    }),
  );
  await fc.assert(
    fc.asyncProperty(question, async ({ query, where, sort, paging: { skip, take } }) => {
      const { value, top } = query;
      const key = keyOf(query);
      const name = (position: number): string => value.groups[position] ?? key ?? '';
      const visible = records.filter((record) => where === null || matches(record, where.value));
      let expected = aggregate(visible, value);
      const keysUp: Order = value.groups.map((_, index) => [index, false]);
      const standard: Order = key === null ? keysUp : [[value.groups.length, true], ...keysUp];
      expected.sort(byOrder(standard));
      if (top !== null) expected = expected.slice(0, top);
      if (sort.length > 0) expected.sort(byOrder([...sort, ...keysUp]));
      const isRounded = value.function === 'SUM' || value.function === 'AVG';
      const text = [
        `EVENTS ${query.text}`,
        ...(where === null ? [] : [`WHERE ${where.text}`]),
        ...(sort.length === 0
          ? []
          : [`SORT ${sort.map(([position, down]) => `${name(position)}${down ? ' DESC' : ''}`).join(', ')}`]),
        // Rounding may change which of two nearly equal sums is cut.
        ...(skip === null || isRounded ? [] : [`SKIP ${skip}`]),
        ...(take === null || isRounded ? [] : [`TAKE ${take}`]),
      ].join(' ');
      const answer = await askExactly(store.socketPath, text);
      if (!isRounded) {
        const from = skip ?? 0;
        const page = expected.slice(from, take === null ? undefined : from + take);
        assert.deepEqual(
          answer.map(spellRecord),
          page.map((group) => expectedRecord(query, key, group)),
          text,
        );
        return;
      }
      checkRounded(text, answer, expected, query, sort.length > 0 ? [...sort, ...keysUp] : standard);
    }),
    { numRuns: 160, seed: 20260503, endOnFailure: true },
  );
});

/** The same groups, sums within what rounding may cost, in the order of the values that were sent. */
function checkRounded(
  text: string,
  answer: readonly ExactRecord[],
  expected: readonly ReferenceGroup[],
  query: Written,
  order: Order,
): void {
  const key = keyOf(query) ?? '';
  const names = query.value.groups;
  const label = (keys: readonly unknown[]): string => keys.map(spelt).join();
  const left = new Map(
    expected.map((group) => [label(names.map((name, i) => shownKey(name, group.keys[i] ?? null))), group]),
  );
  const sent = answer.map((record) => {
    const id = label(names.map((name) => record[name]));
    const group = left.get(id);
    assert.ok(group !== undefined, `${text}: ${id} is no group`);
    left.delete(id);
    const value = record[key] as Shown;
    assert.equal(typeof value, typeof group.value, `${text}: ${id}: ${spelt(value)} ${spelt(group.value)}`);
    if (typeof value === 'number' && typeof group.value === 'number') {
      const same = Object.is(value, group.value) || Math.abs(value - group.value) <= 1e-9 * group.magnitude;
      assert.ok(same, `${text}: ${id}: ${value} is not ${group.value}`);
    } else assert.equal(value, group.value, text);
    return { ...group, value };
  });
  assert.equal(left.size, 0, text);
  assert.deepEqual(sent, [...sent].sort(byOrder(order)), text);
}
