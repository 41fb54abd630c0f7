/** Counters, thresholds and the window of pressure: what decides about indexes, as functions of time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BatchWindow } from '../../src/indexes/batchWindow.js';
import { FieldCounters, MAX_COUNTED_FIELDS } from '../../src/indexes/counters.js';
import { decide, MAX_DESIRED, type PolicyDecision, type PolicyLimits } from '../../src/indexes/policy.js';

const HOUR = 3_600_000_000_000n;
const NOW = 500_000n * HOUR + 17n;
const LIMITS: PolicyLimits = { windowHours: 24, createThreshold: 100, dropThreshold: 10 };

const counts = (of: Readonly<Record<string, number>>) => new Map(Object.entries(of));
const fieldsOf = ({ desired }: PolicyDecision) => desired.map(({ field }) => field);
const whyOf = ({ verdicts }: PolicyDecision, field: string) =>
  verdicts.find((verdict) => verdict.field === field)?.why;

function run(
  of: Readonly<Record<string, number>>,
  desired: readonly string[] = [],
  manual: Readonly<Record<string, bigint>> = {},
): PolicyDecision {
  return decide({
    counts: counts(of),
    desired: desired.map((field) => ({ field, isExpression: true })),
    manual: new Map(Object.entries(manual)),
    limits: LIMITS,
    nowNs: NOW,
  });
}

test('[IDX-6][IDX-1] a field enters at the create threshold, leaves below the drop threshold, and between the two nothing changes', () => {
  const fresh = run({ rare: 99, enough: 100, event_type: 500 });
  assert.deepEqual(fresh.desired, [
    { field: 'event_type', isExpression: false },
    { field: 'enough', isExpression: true },
  ]);
  assert.equal(whyOf(fresh, 'rare'), 'rare');
  assert.equal(whyOf(fresh, 'enough'), 'entered');
  const later = run({ a: 10, b: 9, c: 99 }, ['a', 'b', 'gone']);
  assert.deepEqual(fieldsOf(later), ['a']);
  assert.deepEqual(
    [whyOf(later, 'a'), whyOf(later, 'b'), whyOf(later, 'gone'), whyOf(later, 'c')],
    ['stays', 'left', 'left', 'rare'],
  );
});

test('[IDX-8] priority is by use, ties by name', () => {
  assert.deepEqual(fieldsOf(run({ b: 200, a: 200, c: 300 })), ['c', 'a', 'b']);
});

test('[IDX-47][IDX-48][QL-72][QL-73] a manual wish is on top, needs no use for one window, and then is a member like any other', () => {
  const wished = run({ busy: 5000 }, ['busy'], { wish: NOW - 23n * HOUR, newer: NOW });
  assert.deepEqual(fieldsOf(wished), ['newer', 'wish', 'busy']);
  assert.equal(whyOf(wished, 'wish'), 'manual');
  const unused = run({ busy: 5000 }, ['newer', 'wish', 'busy'], { wish: NOW - 24n * HOUR, newer: NOW });
  assert.deepEqual(fieldsOf(unused), ['newer', 'busy']);
  assert.deepEqual([...unused.manual.keys()], ['newer']);
  const used = run({ busy: 5000, wish: 10 }, ['wish', 'busy'], { wish: NOW - 24n * HOUR });
  assert.deepEqual(fieldsOf(used), ['busy', 'wish'], 'use decides from then on');
  // A clock that was ahead makes nothing immune for ever.
  assert.deepEqual([...run({}, [], { wish: NOW + 900n * HOUR }).manual], [['wish', NOW]]);
});

test('[IDX-6][IDX-30] the policy is the same for the same input, stays within its budget and swings with no field', () => {
  const name = fc.constantFrom(
    ...Array.from({ length: 60 }, (_, n) => `f${n}`),
    'event_type',
    'cpu_id',
    'sequence',
  );
  const input = fc.record({
    counts: fc.uniqueArray(fc.tuple(name, fc.nat(300)), { selector: ([key]) => key, maxLength: 60 }),
    desired: fc.uniqueArray(name, { maxLength: 40 }),
    manual: fc.uniqueArray(fc.tuple(name, fc.bigInt(NOW - 48n * HOUR, NOW + HOUR)), {
      selector: ([key]) => key,
      maxLength: 40,
    }),
  });
  fc.assert(
    fc.property(input, (given) => {
      const once = (desired: PolicyDecision['desired']) =>
        decide({
          counts: new Map(given.counts),
          desired,
          manual: new Map(given.manual),
          limits: LIMITS,
          nowNs: NOW,
        });
      const before = given.desired.map((field) => ({ field, isExpression: false }));
      const decision = once(before);
      assert.deepEqual(
        once([...before].reverse()).desired,
        decision.desired,
        'the order before decides nothing',
      );
      assert.ok(decision.desired.length <= MAX_DESIRED);
      assert.equal(new Set(fieldsOf(decision)).size, decision.desired.length);
      for (const { field, count, priority, why } of decision.verdicts) {
        const immune = decision.manual.has(field);
        if (count >= LIMITS.createThreshold || immune) assert.ok(priority !== null || why === 'noRoom');
        else if (count < LIMITS.dropThreshold) assert.equal(priority, null);
        else if (why !== 'noRoom') assert.equal(priority !== null, given.desired.includes(field));
        assert.notEqual(field, 'sequence');
      }
      // Unchanged use changes nothing: no second run undoes the first.
      assert.deepEqual(once(decision.desired).desired, decision.desired);
    }),
    { numRuns: 300, seed: 20_261_122 },
  );
});

test('[IDX-2][IDX-8] counts are sums of hourly buckets, and hours beyond the window are forgotten', () => {
  const counters = new FieldCounters();
  counters.add('a', 5, NOW);
  counters.add('a', 3, NOW + HOUR);
  counters.add('sequence', 9, NOW);
  counters.add('timestamp', 9, NOW);
  counters.prune(24, NOW + 23n * HOUR);
  assert.deepEqual(counters.counts(), counts({ a: 8 }));
  assert.deepEqual(counters.stored(), [{ field: 'a', count: 8, windowStart: 500_000n * HOUR }]);
  counters.prune(24, NOW + 24n * HOUR);
  assert.deepEqual(counters.counts(), counts({ a: 3 }));
  counters.prune(24, NOW + 25n * HOUR);
  assert.deepEqual(counters.counts(), counts({}));
});

test('[IDX-8] what was loaded is spread over the hours it was counted in, and ages out with them', () => {
  const counters = new FieldCounters();
  const row = { field: 'a', count: 10, windowStart: NOW - 3n * HOUR };
  counters.load([row, { field: 'old', count: 48, windowStart: NOW - 47n * HOUR }], 24, NOW);
  assert.deepEqual(counters.counts(), counts({ a: 10, old: 24 }), 'half of 48 hours are over');
  counters.prune(24, NOW + 21n * HOUR);
  assert.equal(counters.counts().get('a'), 8, 'its oldest hour is over');
  counters.prune(24, NOW + 24n * HOUR);
  assert.equal(counters.counts().get('a'), undefined);
  const wrong = new FieldCounters();
  wrong.load([{ field: 'ahead', count: 7, windowStart: NOW + 1000n * HOUR }], 24, NOW);
  assert.equal(wrong.counts().get('ahead'), 7);
  wrong.add('ahead', 1, NOW + 5000n * HOUR);
  wrong.prune(24, NOW);
  assert.equal(wrong.counts().get('ahead'), 8, 'a clock that went back takes its counts along');
  wrong.prune(24, NOW + 24n * HOUR);
  assert.equal(wrong.counts().get('ahead'), undefined, 'and they age from there');
});

test('[IDX-2] queries cannot make more counters than there is room for, and the least used goes', () => {
  const counters = new FieldCounters();
  for (let n = 0; n < MAX_COUNTED_FIELDS; n++) counters.add(`f${n}`, n === 17 ? 1 : 2, NOW);
  counters.add('late', 1, NOW);
  assert.equal(counters.counts().size, MAX_COUNTED_FIELDS);
  assert.ok(counters.counts().has('late') && !counters.counts().has('f17'));
});

test('[IDX-21][IDX-22] pressure lasts when a whole window of batches was mostly oversized; a pause or a drop begins it anew', () => {
  const shedding = { windowSeconds: 30, batchPercent: 75 };
  const window = new BatchWindow();
  const batch = (rows: number, at: number) => {
    window.observe(rows, 1000, at, shedding);
    return window.isLasting(at, shedding);
  };
  let at = 1000;
  for (; at < 31_000; at += 500) assert.equal(batch(751, at), false, 'the window is not spanned');
  assert.equal(batch(751, at), true);
  window.clear();
  assert.equal(batch(1000, at + 500), false, '[IDX-22] at most one index per window');
  // Two thirds are fewer than allowed; 750 rows are not oversized.
  const even = new BatchWindow();
  let lasting = false;
  for (let n = 0; n < 400; n++) {
    even.observe(n % 3 === 0 ? 750 : 1000, 1000, n * 100, shedding);
    lasting ||= even.isLasting(n * 100, shedding);
  }
  assert.equal(lasting, false);
  const never = { windowSeconds: 30, batchPercent: 100 };
  const full = new BatchWindow();
  for (let n = 0; n < 400; n++) full.observe(1000, 1000, n * 100, never);
  assert.equal(full.isLasting(40_000, never), false, '100 percent can never be exceeded');
  // One large batch after an hour of silence is no lasting pressure.
  const rested = new BatchWindow();
  rested.observe(10, 1000, 0, shedding);
  rested.observe(1000, 1000, 3_600_000, shedding);
  assert.equal(rested.isLasting(3_600_000, shedding), false);
});
