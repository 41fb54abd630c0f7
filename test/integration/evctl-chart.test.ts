/** evctl --chart in a pipe: without colours, and as wide as $COLUMNS says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { displayWidth } from '../../src/cli/terminal.js';
import { encodeEnd, encodeResult, type WireRecord } from '../../src/wire/messages.js';
import { runProgram } from '../fixtures/runProgram.js';
import { startWireServer } from '../fixtures/wireServer.js';

const T = 1_777_636_800_000_000_000n;
const sample = (core: number, minute: number, value: number | bigint): WireRecord => ({
  timestamp: T + BigInt(minute) * 60_000_000_000n,
  name: 'cpu.usage',
  core: String(core),
  value,
});

async function chart(records: readonly WireRecord[], ...args: string[]) {
  await using server = await startWireServer((_, socket) =>
    socket.end(Buffer.concat([encodeResult(records), encodeEnd()])),
  );
  const result = await runProgram('evctl', ['-s', server.path, '--chart', ...args, 'METRIC cpu.usage[]'], {
    env: { COLUMNS: '60' },
  }).done;
  const lines = result.stdout.toString().split('\n').slice(0, -1);
  for (const line of lines) assert.ok(displayWidth(line) <= 60, line);
  return { ...result, lines };
}

test('[QL-99] without colours each series has a field of its own, over the same time', async () => {
  const { code, lines } = await chart([
    ...Array.from({ length: 10 }, (_, i) => sample(0, i, 10 * i)),
    ...Array.from({ length: 5 }, (_, i) => sample(1, i, 3)),
  ]);
  assert.equal(code, 0);
  const titles = lines.filter((line) => line.startsWith('━━'));
  assert.deepEqual(titles, [
    '━━ cpu.usage{core="0"}  last 90  min 0  max 90',
    '━━ cpu.usage{core="1"}  last 3  min 3  max 3',
  ]);
  const times = lines.filter((line) => / UTC$/.test(line));
  assert.deepEqual(
    times.map((line) => line.trim().split(/ +/)),
    Array.from({ length: 2 }, () => ['12:00:00', '12:04:30', '12:09:00', 'UTC']),
  );
  // The second series ends in the middle of the time of both.
  const flat = lines
    .slice(lines.indexOf(titles[1] ?? ''))
    .find((line) => line.includes('⠤⠤') || line.includes('⣀⣀'));
  assert.ok(flat !== undefined && flat.trimEnd().length > 20 && flat.trimEnd().length < 40, flat);
});

test('[QL-99] many series are sparks, one sample per series is bars', async () => {
  const many = await chart(
    Array.from({ length: 80 }, (_, core) => [sample(core, 0, 0), sample(core, 9, core + 1)]).flat(),
  );
  assert.match(many.lines[0] ?? '', /^cpu\.usage\{core="0"\} {3}▁ +█ {2}last 1 {2}min 0 {2}max 1$/);
  assert.equal(many.lines.filter((line) => line.startsWith('cpu.usage')).length, 60);
  assert.ok(many.lines.includes('… 20 more series'));
  const bars = await chart([sample(0, 0, 50), sample(1, 0, 100n), sample(2, 0, -25)]);
  const widths = bars.lines.map((line) => line.replace(/[^█▏▎▍▌▋▊▉]/g, '').length);
  assert.deepEqual(
    bars.lines.map((line) => line.split('│')[0]?.trim()),
    ['cpu.usage{core="0"}   50', 'cpu.usage{core="1"}  100', 'cpu.usage{core="2"}  -25'],
  );
  assert.ok(Math.abs((widths[1] ?? 0) - 2 * (widths[0] ?? 0)) <= 1 && (widths[2] ?? 0) > 0, widths.join());
  assert.ok((bars.lines[2] ?? '').indexOf('█') < (bars.lines[0] ?? '').indexOf('█'));
});

test('[QL-102] what is no number is told, and nothing at all is a failure', async () => {
  const histogram = {
    timestamp: T,
    name: 'h',
    value: { boundaries: [1], counts: [1n], total_count: 1n, sum: 1 },
  };
  const mixed = await chart([sample(0, 0, 1), sample(0, 1, 2), histogram]);
  assert.equal(mixed.lines.at(-1), '1 record without a number is not drawn');
  const none = await chart([histogram]);
  assert.deepEqual(
    [none.code, none.stderr],
    [
      1,
      'evctl: there is nothing to draw: the records hold no single numbers (a histogram needs P50, P95 or P99)\n',
    ],
  );
  const empty = await chart([]);
  assert.deepEqual([empty.code, empty.stderr], [1, 'evctl: there are no samples to draw\n']);
});

test('[QL-99] numbers at the end of all numbers are drawn, as lines, sparks and bars', async () => {
  const huge = [1.7e308, -1.7e308, 1.7e308];
  const at = (series: number, minute: number, value: number): WireRecord => ({
    timestamp: T + BigInt(minute) * 60_000_000_000n,
    name: `x${series}`,
    value,
  });
  const lines = await chart(huge.map((value, minute) => at(0, minute, value)));
  assert.deepEqual([lines.code, lines.stderr], [0, '']);
  assert.match(lines.lines.join('\n'), /━━ x0 {2}last 1\.7e308 [\s\S]*\n *1\.7e308 ┤[\s\S]*\n-1\.7e308 ┤/);
  const one = await chart([at(0, 0, 1.7e308), at(0, 1, 1.7e308)]);
  assert.match(one.lines.join('\n'), /\n1\.7e308 ┤[\s\S]*\n {6}0 ┤/);
  const many = await chart(
    Array.from({ length: 8 }, (_, core) => huge.map((value) => at(core, value > 0 ? 0 : 9, value))).flat(),
  );
  assert.match(many.lines[0] ?? '', /^x0 {2}█ +▁ {2}last/);
  const bars = await chart([at(0, 0, 1.7e308), at(1, 0, -1.7e308)]);
  assert.deepEqual([bars.code, bars.lines.filter((line) => line.includes('█')).length], [0, 2]);
});
