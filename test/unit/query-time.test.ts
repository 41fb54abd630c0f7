import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseQuery } from '../../src/query/parser.js';
import { type EventsPlan, planEvents } from '../../src/query/plan.js';
import { instantOf, MAX_TIME } from '../../src/query/time.js';

const SECOND = 1_000_000_000n;
/** 2026-05-02T10:20:30.123456789Z */
const NOW = BigInt(Date.UTC(2026, 4, 2, 10, 20, 30)) * 1_000_000n + 123_456_789n;

function plan(text: string, now = NOW): EventsPlan {
  const query = parseQuery(text);
  assert.ok(query.mode === 'EVENTS');
  return planEvents(query, now);
}

function since(literal: string, now = NOW): bigint | null {
  return plan(`EVENTS SINCE ${literal}`, now).from;
}

function utc(text: string): bigint {
  return BigInt(Date.parse(text)) * 1_000_000n;
}

test('[QL-10] relative times lie before and after now, in every unit', () => {
  assert.equal(since('90s ago'), NOW - 90n * SECOND);
  assert.equal(since('5m ago'), NOW - 300n * SECOND);
  assert.equal(since('2H HENCE'), NOW + 7200n * SECOND);
  assert.equal(since('3d ago'), NOW - 3n * 86_400n * SECOND);
  assert.equal(since('0s ago'), NOW);
});

test('[QL-11] days and dates are midnight UTC', () => {
  assert.equal(since('today'), utc('2026-05-02T00:00:00Z'));
  assert.equal(since('Yesterday'), utc('2026-05-01T00:00:00Z'));
  assert.equal(since('2026-05-01'), utc('2026-05-01T00:00:00Z'));
  assert.equal(since('2026-05-01T23:59:59'), utc('2026-05-01T23:59:59Z'));
  assert.equal(since('2026-05-01T23:59:59Z'), utc('2026-05-01T23:59:59Z'));
  assert.equal(since('2024-02-29'), utc('2024-02-29T00:00:00Z'));
});

test('[QL-12] results are clamped to 0..2^63-1', () => {
  assert.equal(since('1969-12-31'), 0n);
  assert.equal(since('0050-01-01'), 0n);
  assert.equal(since('9999-12-31'), MAX_TIME);
  assert.equal(since('999999999d ago'), 0n);
  assert.equal(since(`${'9'.repeat(1000)}d hence`), MAX_TIME);
  assert.equal(since('yesterday', 5n), 0n);
});

test('[QL-12] one reading of the clock serves every literal and default', () => {
  const { from, to, where } = plan('EVENTS SINCE 1h ago WHERE a == 1h ago OR b IN (today)');
  assert.equal(from, NOW - 3600n * SECOND);
  assert.equal(to, NOW);
  assert.ok(where?.kind === 'or');
  const [first, second] = where.terms;
  assert.ok(first?.kind === 'compare' && second?.kind === 'in');
  assert.equal(first.value, from);
  assert.deepEqual(second.values, [utc('2026-05-02T00:00:00Z')]);
});

test('[QL-51] UNTIL excludes its instant, the implicit UNTIL includes now', () => {
  assert.equal(plan('EVENTS').to, NOW);
  assert.equal(plan('EVENTS').from, null);
  assert.equal(plan('EVENTS UNTIL 0s ago').to, NOW - 1n);
  assert.equal(plan('EVENTS UNTIL 1h hence').to, NOW + 3600n * SECOND - 1n);
  assert.equal(plan('EVENTS UNTIL 1970-01-01').to, -1n);
});

test('[QL-11, QL-12] the calendar agrees with the platform, and rejects what it rejects', () => {
  const part = (min: number, max: number) => fc.integer({ min, max });
  fc.assert(
    fc.property(
      part(0, 9999),
      part(0, 13),
      part(0, 32),
      part(0, 24),
      part(0, 60),
      part(0, 61),
      (...parts) => {
        const [year, month, day, hour, minute, second] = parts;
        const pad = (value: number, width = 2) => String(value).padStart(width, '0');
        const date = `${pad(year, 4)}-${pad(month)}-${pad(day)}`;
        const ms = Date.parse(`${date}T${pad(hour)}:${pad(minute)}:${pad(second)}Z`);
        // The platform accepts 24:00:00 and rolls days over; the language does neither (QL-12).
        const exact =
          !Number.isNaN(ms) &&
          new Date(ms).toISOString() === `${date}T${pad(hour)}:${pad(minute)}:${pad(second)}.000Z`;
        const expected = exact ? BigInt(ms) * 1_000_000n : null;
        assert.equal(instantOf(year, month, day, hour, minute, second), expected);
      },
    ),
    { numRuns: 2000 },
  );
});

test('[QX-41] a plan names the fields it counts for, each once', () => {
  const text =
    'EVENTS a.* SINCE today WHERE timestamp > 1 AND x.y == 1 OR sequence == 2 OR (x.y == 3 AND cpu_id == 1) SORT z SELECT q';
  assert.deepEqual(plan(text).trackedFields, ['event_type', 'x.y', 'cpu_id']);
  assert.deepEqual(plan('EVENTS SORT a').trackedFields, []);
});
