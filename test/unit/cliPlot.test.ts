import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { axisNumber, bar, Canvas, niceScale, shareOf, sparkline } from '../../src/cli/plot.js';
import { displayWidth, padTo } from '../../src/cli/terminal.js';

test('a rising line goes from the lower left dot to the upper right one', () => {
  const canvas = new Canvas(4, 2);
  canvas.line(
    [
      { x: 0, y: 0 },
      { x: 1, y: 1 },
    ],
    0,
  );
  const rows = canvas.rows((text) => text);
  assert.deepEqual(rows, ['  ⡠⠊', '⡠⠊  ']);
});

test('the line drawn last owns a cell, and each run of cells is painted once', () => {
  const canvas = new Canvas(4, 1);
  canvas.line(
    [
      { x: 0, y: 0 },
      { x: 1, y: 0 },
    ],
    0,
  );
  canvas.line([{ x: 1, y: 1 }], 1);
  assert.deepEqual(
    canvas.rows((text, owner) => `${owner}<${text}>`),
    ['0<⣀⣀⣀>1<⣈>'],
  );
});

test('ranges are round and hold all values', () => {
  for (const [low, high] of [
    [0, 97],
    [-3, 12.5],
    [0.0001, 0.00042],
    [1e9, 1.2e9],
    [5, 5],
    [0, 0],
    [-7, -7],
  ] as const) {
    const { marks, ...ends } = niceScale(low, high, 4);
    assert.ok(ends.low <= low && ends.high >= high && ends.high > ends.low, `${low}..${high}`);
    const steps = marks.slice(1).map((mark, i) => mark - (marks[i] ?? 0));
    assert.ok(steps.length >= 1 && steps.length <= 6, `${steps.length} steps`);
    for (const step of steps) assert.ok(Math.abs(step / (steps[0] ?? 0) - 1) < 1e-6, steps.join());
  }
  assert.deepEqual(niceScale(0, 97, 4), { low: 0, high: 100, marks: [0, 25, 50, 75, 100] });
});

test('[QL-99] any finite numbers have a scale of a few marks that holds them, and a place in it', () => {
  const finite = fc.double({ noNaN: true, noDefaultInfinity: true });
  const neighbour = fc.tuple(finite, fc.integer({ min: -3, max: 3 })).map(([value, away]) => {
    const bits = new BigInt64Array(new Float64Array([value]).buffer);
    bits[0] = (bits[0] ?? 0n) + BigInt(away);
    const [other = value] = new Float64Array(bits.buffer);
    return [value, Number.isFinite(other) ? other : value] as const;
  });
  fc.assert(
    fc.property(
      fc.oneof(fc.tuple(finite, finite), neighbour),
      fc.integer({ min: 1, max: 9 }),
      (ends, parts) => {
        const [low, high] = [Math.min(...ends), Math.max(...ends)];
        const scale = niceScale(low, high, parts);
        assert.ok(scale.low <= low && scale.high >= high && scale.low < scale.high, JSON.stringify(scale));
        assert.ok(scale.marks.length >= 2 && scale.marks.length <= parts + 3, `${scale.marks.length} marks`);
        assert.ok(scale.marks.every(Number.isFinite), scale.marks.join());
        assert.deepEqual([scale.marks[0], scale.marks.at(-1)], [scale.low, scale.high]);
        const [from, to] = [low, high].map((value) => shareOf(scale.low, scale.high, value));
        assert.ok(
          from !== undefined && to !== undefined && 0 <= from && from <= to && to <= 1,
          `${from}, ${to}`,
        );
      },
    ),
    { numRuns: 500, seed: 7 },
  );
  assert.equal(shareOf(-1.7e308, 1.7e308, 0), 0.5);
});

test('numbers of an axis are short', () => {
  assert.deepEqual([0.1 + 0.2, 12_500_000, -0.00001, 0, 1234.5].map(axisNumber), [
    '0.3',
    '1.25e7',
    '-1e-5',
    '0',
    '1234.5',
  ]);
});

test('sparks and bars', () => {
  assert.equal(sparkline([0, 0.5, null, 1]), '▁▅ █');
  assert.equal(bar(0.5, 5), '██▌');
  assert.equal(bar(0, 5), '');
});

test('widths count cells: wide characters two, combining ones none', () => {
  assert.deepEqual(['abc', '日本', 'é', 'é', '🙂', ''].map(displayWidth), [3, 4, 1, 1, 2, 0]);
  assert.equal(padTo('日', 4), '日  ');
  assert.equal(padTo('7', 3, 'right'), '  7');
});
