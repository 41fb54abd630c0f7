/** SIGQUIT: the diagnostic dump of the real eventd, whatever state it is in. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { assertAccounted } from '../fault/failedCommits.js';
import { DebugReader } from '../fixtures/debugReader.js';
import { type EventdRun, EventdWorld, eventually } from '../fixtures/eventd.js';

/** The lines of the dump, which lie together on stderr; waits for it. */
async function dumpOf(run: EventdRun): Promise<string[]> {
  const text = await eventually('the dump', () =>
    /^eventd \d+ boot [\s\S]+?^ {2}memory: .*\n/m.exec(run.stderr),
  );
  const lines = text[0].trimEnd().split('\n');
  assert.ok(
    lines.every((line, at) => (at === 0 ? line.startsWith('eventd ') : line.startsWith('  '))),
    `no log line tears it: ${text[0]}`,
  );
  return lines;
}

const lineOf = (lines: readonly string[], start: string): string =>
  lines.find((line) => line.startsWith(start)) ?? assert.fail(`no line '${start}' in\n${lines.join('\n')}`);

/** Where a word begins. */
const columnOf = (line: string, word: string): number => {
  assert.ok(line.includes(word), `'${word}' in '${line}'`);
  return line.indexOf(word);
};

test('[LIFE-230] [FAIL-5] SIGQUIT shows in one aligned block what a failing writer has lost, hanging or not', {
  timeout: 60_000,
}, async (t) => {
  const world = EventdWorld.for(t, { capacity: 4 << 20 });
  const run = await world.start();
  world.emitMany(1, 12_345);
  await world.stored(1);
  const release = world.lock(0);
  t.after(release);
  const first = world.sequence(0) + 1n;
  world.emitMany(0, 30);
  // A commit waits five seconds for the lock before it fails; the next one waits again.
  await run.hasLogged('a failed commit', ({ msg }) => /shard 0 could not/.test(String(msg)));
  run.kill('SIGQUIT');
  const dump = await dumpOf(run);
  release();
  assert.match(dump[0] ?? '', new RegExp(`^eventd ${run.pid} boot \\{aaaaaaaa-[-0-9a-f]+\\}, up \\d+ s$`));
  assert.match(dump[1] ?? '', /^ {2}daemon: ready, 0 recoveries of the event path$/);
  const readers = [lineOf(dump, '  reader 0:'), lineOf(dump, '  reader 1:')];
  assert.match(
    readers[0] ?? '',
    /running\.waiting \+ pressure\.normal, fill 0\.000, last sequence +30, +30 events, 0 gaps, 0 lost, peak fill 0\.0\d\d$/,
  );
  assert.match(readers[1] ?? '', /last sequence 12345, 12345 events/);
  for (const word of [' events', ' gaps', ' lost', 'fill ', 'peak fill'])
    assert.equal(columnOf(readers[0] ?? '', word), columnOf(readers[1] ?? '', word), dump.join('\n'));
  const writers = [lineOf(dump, '  writer 0:'), lineOf(dump, '  writer 1:')];
  assert.match(
    writers[0] ?? '',
    /(degraded|no answer), +failing, +\d+\/10000 rows waiting, 0 readers blocked/,
  );
  assert.match(
    writers[1] ?? '',
    /(idle|batching|committing), +good, +\d+\/10000 rows waiting, 0 readers blocked, 1234\d rows in \d+ commits, 0 failed in a row, stored up to cpu 1 12345, 0 lost ranges to record$/,
  );
  for (const word of [' rows waiting', ' readers blocked'])
    assert.equal(columnOf(writers[0] ?? '', word), columnOf(writers[1] ?? '', word), dump.join('\n'));
  assert.match(lineOf(dump, '    writer 0 failed:'), /SQLITE_BUSY: .*locked/);
  // One range, or several when the events came in several batches.
  const lost = lineOf(dump, '    writer 0 lost, not yet recorded: cpu 0 ');
  const ranges = [...lost.matchAll(/cpu 0 (\d+)-(\d+)/g)].map(([, from, to]) => [
    BigInt(from ?? 0),
    BigInt(to ?? 0),
  ]);
  assert.equal(ranges[0]?.[0], first);
  assert.ok(ranges.every(([from = 0n, to = 0n]) => from <= to && to <= 30n));
  assert.match(lineOf(dump, '  queries:'), /connections 0, running 0/);
  assert.match(lineOf(dump, '  memory:'), /^ {2}memory: \d+ MiB resident, \d+ MiB of it/);
  assert.deepEqual(await run.exited, { code: 0, signal: null });
  const gaps = world.gaps().map(({ cpu, first: from, last }) => [cpu, from, last]);
  for (const [from, to] of ranges)
    assert.ok(
      gaps.some(([cpu, a, b]) => cpu === 0 && (a ?? 0) <= (from ?? 0n) && (b ?? 0) >= (to ?? 0n)),
      `the dump told the truth: ${lost}`,
    );
  assertAccounted(world, 2);
});

test('[LIFE-230] a writer that hangs delays the dump by half a second, not the stop', {
  timeout: 60_000,
}, async (t) => {
  const world = EventdWorld.for(t);
  const run = await world.start();
  const release = world.lock(0);
  t.after(release);
  world.emitMany(0, 30);
  const reader = new DebugReader(world.paths.debugSocket);
  t.after(() => reader.close());
  await reader.sees(({ figures }) => figures?.['writer-0']?.answers === false);
  const asked = performance.now();
  run.kill('SIGQUIT');
  const dump = await dumpOf(run);
  const took = performance.now() - asked;
  release();
  assert.ok(took < 3000, `${took} ms`);
  assert.match(lineOf(dump, '  writer 0:'), /no answer, good, +0\/10000 rows waiting/);
  assert.match(lineOf(dump, '  writer 1:'), /idle, +good/);
  assert.deepEqual(await run.exited, { code: 0, signal: null });
  assert.equal(world.sequences(0).length, 30);
});

test('[LIFE-230] the dump counts recoveries, and says so when there is no event path', {
  timeout: 60_000,
}, async (t) => {
  const world = EventdWorld.for(t);
  const first = world.spawn();
  await first.hasLogged('the start', () => true);
  first.kill('SIGQUIT');
  assert.match((await dumpOf(first)).join('\n'), /^ {2}daemon: starting\.\w+, 0 recoveries/m);
  assert.deepEqual(await first.exited, { code: 0, signal: null });

  const run = await world.start();
  world.emitMany(0, 5);
  await world.stored(0);
  rmSync(join(world.events, 'shard-0000.db'));
  await eventually('the event path works again', () => {
    world.emit(0, 'test.again');
    return run.log().some(({ msg }) => /event path works again/.test(String(msg)));
  });
  await world.stored(0);
  run.kill('SIGQUIT');
  const dump = await dumpOf(run);
  assert.match(dump[1] ?? '', /^ {2}daemon: ready, 1 recovery of the event path$/);
  assert.match(lineOf(dump, '  writer 0:'), /idle, +good/);
  assert.deepEqual(await run.exited, { code: 0, signal: null });
});
