import assert from 'node:assert/strict';
import { test } from 'node:test';
import { axisNumber, bar, Canvas, niceRange, sparkline } from '../../src/cli/plot.js';
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
    const range = niceRange(low, high, 4);
    assert.ok(range.low <= low && range.high >= high && range.high > range.low, `${low}..${high}`);
    const marks = (range.high - range.low) / range.step;
    assert.ok(Math.abs(marks - Math.round(marks)) < 1e-6 && marks >= 1 && marks <= 7, `${marks} marks`);
  }
  assert.deepEqual(niceRange(0, 97, 4), { low: 0, high: 100, step: 25 });
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
