/** What retention aims at, and how fast it goes about it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ageCutoff, scaled, sizeCutoff } from '../../src/stores/retentionLimits.js';
import { MOST_ROWS, RetentionPace } from '../../src/stores/retentionPace.js';

test('[RET-4][LOG-50][MET-60] a row of exactly so many days stays, an older one goes, also far beyond what a double holds', () => {
  const now = 2n ** 62n + 1n;
  assert.equal(ageCutoff(now, 30), now - 2_592_000_000_000_000n - 1n);
  assert.equal(ageCutoff(1n, 3650), -315_360_000_000_000_000n);
});

test('[RET-5][RET-13][LOG-51][MET-61] a cutoff by size is never beyond what has to go, oldest first, and always brings it nearer', () => {
  const probe = fc.record({ timestamp: fc.bigInt(0n, 10_000n), bytes: fc.integer({ min: 1, max: 1000 }) });
  fc.assert(
    fc.property(
      fc.array(probe, { minLength: 1, maxLength: 60 }),
      fc.double({ min: 0.001, max: 1, noNaN: true }),
      (probes, share) => {
        const total = probes.reduce((sum, { bytes }) => sum + bytes, 0);
        const excess = total * share;
        const cutoff = sizeCutoff(probes, excess, total);
        assert.ok(cutoff !== null);
        const below = probes.filter(({ timestamp }) => timestamp <= cutoff);
        assert.ok(below.length > 0, 'nothing would go');
        // Without the youngest of them it would not be enough.
        const youngest = below.reduce((a, { timestamp }) => (timestamp > a ? timestamp : a), -1n);
        const older = below.filter(({ timestamp }) => timestamp < youngest);
        assert.ok(older.reduce((sum, { bytes }) => sum + bytes, 0) < excess, 'too much would go');
      },
    ),
    { numRuns: 300, seed: 7 },
  );
  assert.equal(sizeCutoff([], 10, 100), null);
});

test('[RET-12] probes stand for the bytes of the used pages, whatever their rows weigh', () => {
  const probes = scaled(
    [
      { timestamp: 1n, bytes: 10 },
      { timestamp: 2n, bytes: 30 },
    ],
    4000,
  );
  assert.deepEqual(
    probes.map(({ bytes }) => bytes),
    [1000, 3000],
  );
  assert.deepEqual(scaled([], 4000), []);
});

test('[RET-7][RET-9][FAIL-33][LOG-52][MET-63] batches are bounded; a writer under pressure gets smaller ones and longer pauses', () => {
  const settled = (pressure: number) => {
    const pace = new RetentionPace();
    let pauseMs = 0;
    for (let n = 0; n < 50; n++) {
      const rows = pace.rowsFor(false);
      assert.ok(rows > 0 && rows <= MOST_ROWS);
      // A disk that takes 20 µs a row.
      pauseMs = pace.observe({ rows, ms: rows * 0.02, pressure, urgent: false });
    }
    return { rows: pace.rowsFor(false), pauseMs };
  };
  const calm = settled(0);
  const flowing = settled(0.01);
  const busy = settled(0.25);
  const pressed = settled(0.9);
  assert.ok(calm.rows > busy.rows && busy.rows > pressed.rows, JSON.stringify([calm, busy, pressed]));
  const share = ({ rows, pauseMs }: typeof calm) => (rows * 0.02) / (rows * 0.02 + pauseMs);
  assert.ok(share(calm) > 0.4 && share(busy) < 0.2 && share(pressed) < 0.06);
  assert.ok(
    share(flowing) > 0.15 && share(flowing) < 0.25,
    'a writer at work has most of the time to itself',
  );
});

test('[RET-7][RET-9][RET-11] a batch that takes too long is quartered down to a single row; a full disk knows no pauses', () => {
  const pace = new RetentionPace();
  let before = pace.rowsFor(false);
  while (pace.shrink()) {
    assert.ok(pace.rowsFor(false) <= before / 2);
    before = pace.rowsFor(false);
  }
  assert.equal(pace.rowsFor(false), 1);
  assert.equal(pace.observe({ rows: 1, ms: 9, pressure: 1, urgent: true }), 0);
  const fast = new RetentionPace();
  for (let n = 0; n < 10; n++)
    fast.observe({ rows: fast.rowsFor(false), ms: 0.1, pressure: 0, urgent: false });
  assert.equal(fast.rowsFor(false), MOST_ROWS);
  assert.ok(fast.rowsFor(true) < MOST_ROWS / 2, 'the WAL has little room');
});
