/** `evctl inspect` against a debug socket that says what the test wants. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runProgram } from '../fixtures/runProgram.js';
import { startServer } from '../fixtures/wireServer.js';

const AT = 1777636801123;
const MACHINE = '{"id":"m","states":{"a":{}}}';

const actor = (sessionId: string, parentId: string | null, name: string, definition = MACHINE) => ({
  type: '@xstate.actor',
  name,
  sessionId,
  ...(parentId === null ? {} : { parentId }),
  rootId: 'main/x:0',
  definition,
  snapshot: { status: 'active', value: 'idle' },
  id: null,
  createdAt: String(AT),
  _version: '0.7.2',
});
const snapshot = (sessionId: string, value: unknown, event: string, at = AT, more: object = {}) => ({
  type: '@xstate.snapshot',
  sessionId,
  rootId: 'main/x:0',
  event: { type: event },
  snapshot: { status: 'active', value, ...more },
  id: null,
  createdAt: String(at),
  _version: '0.7.2',
});
const figures = (values: object, at = AT) => ({
  type: '@eventd.figures',
  createdAt: String(at),
  figures: values,
});
const ready = { type: '@eventd.ready' };
const lines = (...messages: object[]) => messages.map((message) => `${JSON.stringify(message)}\n`).join('');

const readerFigures = {
  answers: true,
  fill: 0.004,
  peakFill: 0.81,
  lastSequence: '18446744073709551615',
  gaps: '0',
};

const busy = lines(
  actor('main/x:0', null, 'daemon'),
  snapshot('main/x:0', 'ready', 'xstate.init', AT, { tags: ['ready'] }),
  actor('writer-10#4/x:0', 'main/x:0', 'writer-10'),
  actor('writer-2#3/x:0', 'main/x:0', 'writer-2'),
  snapshot('writer-2#3/x:0', 'degraded', 'x', AT, { tags: ['degraded'] }),
  actor('writer-2#3/x:5', 'writer-2#3/x:0', '0.shardWriter.committing', '{"id":"0.shardWriter.committing"}'),
  actor('readers#2/x:0', 'main/x:0', 'reader-0'),
  snapshot('readers#2/x:0', { flow: { running: 'waiting' }, pressure: 'normal' }, 'x'),
  figures({
    daemon: { upSeconds: 192, residentBytes: 135_266_304, recoveries: 1, queriesRunning: 3 },
    'reader-0': readerFigures,
    'writer-2': {
      answers: true,
      health: 'failing',
      rows: 1234,
      commits: 7,
      credit: 0,
      waiting: 10_000,
      blockedReaders: 1,
      failuresInARow: 2,
      owedRanges: 3,
    },
    'writer-10': {
      answers: true,
      health: 'good',
      rows: 9,
      commits: 1,
      rowsPerSecond: 5200,
      credit: 10_000,
      waiting: 0,
    },
    'writer-11': { answers: false },
  }),
);
const table = `daemon        ready                    up 3 min 12 s  129 MiB  3 queries running  1 recoveries
├─ reader-0   running.waiting, normal  fill <1 %  peak 81 %  seq 18,446,744,073,709,551,615
├─ writer-2   degraded [degraded]      1,234 rows  in 7 commits                credit 0       waiting 10,000  1 readers blocked  2 failed in a row  3 lost ranges owed  failing
├─ writer-10  idle                     9 rows      in 1 commits  5,200 rows/s  credit 10,000  waiting 0
└─ writer-11  ? [degraded]             no answer
`;

test('inspect shows one aligned line per actor with its key figures, without the tasks inside them', {
  timeout: 20_000,
}, async () => {
  await using server = await startServer((socket) => socket.write(`${busy}${lines(ready)}`));
  const result = await runProgram('evctl', ['inspect', '--debug-socket', server.path]).done;
  assert.deepEqual([result.code, result.stderr], [0, '']);
  assert.equal(result.stdout.toString(), table);
});

test('inspect --json writes the lines as they are, safe for a terminal', { timeout: 20_000 }, async () => {
  const hostile = snapshot('main/x:0', 'ready', 'bell\u0007 csi\u009b bidi\u202e');
  await using server = await startServer((socket) => {
    socket.write(`${busy}${lines(hostile, ready, actor('late', null, 'late'))}`);
  });
  const args = ['inspect', '--json', '--debug-socket', server.path];
  const result = await runProgram('evctl', args).done;
  const out = result.stdout.toString();
  const shown = out.trimEnd().split('\n');
  assert.equal(result.code, 0);
  assert.deepEqual(
    shown.map((line) => JSON.parse(line) as unknown),
    `${busy}${lines(hostile, ready)}`
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown),
    'everything up to the end of the burst, and nothing behind it',
  );
  for (const unsafe of ['\u0007', '\u009b', '\u202e']) assert.ok(!out.includes(unsafe));
});

test('inspect --follow --json goes on with every line', { timeout: 20_000 }, async () => {
  const late = snapshot('writer-2#3/x:0', 'committing', 'xstate.after.retry.shardWriter.degraded');
  await using server = await startServer((socket) => {
    socket.write(`${busy}${lines(ready, late)}`);
    socket.end();
  });
  const args = ['inspect', '--json', '--follow', '--debug-socket', server.path];
  const result = await runProgram('evctl', args).done;
  assert.deepEqual(JSON.parse(result.stdout.toString().trimEnd().split('\n').at(-1) ?? ''), late);
  assert.equal(result.code, 1);
});

test('inspect --follow counts what repeats itself, and tells figures that change every five seconds', {
  timeout: 20_000,
}, async () => {
  const cycle = (at: number) => [
    snapshot('writer-10#4/x:0', 'committing', 'batch.available', at),
    actor('writer-10#4/x:9', 'writer-10#4/x:0', 'task', '{"id":"task"}'),
    snapshot('writer-10#4/x:0', 'idle', 'xstate.done.actor.0.shardWriter.committing', at + 1),
  ];
  const counts = (rows: number) => ({
    'writer-10': { answers: true, health: 'good', rows, commits: 1, credit: 10_000, waiting: 0 },
    'reader-0': readerFigures,
  });
  await using server = await startServer((socket) => {
    socket.write(`${busy}${lines(ready)}`);
    for (let i = 0; i < 50; i++) socket.write(lines(...cycle(AT + i * 10)));
    socket.write(lines(figures(counts(100), AT + 1000), figures(counts(200), AT + 2000)));
    socket.write(lines(figures(counts(300), AT + 6500), ...cycle(AT + 10_500)));
    // A second front end makes eventd tell of an actor again.
    socket.write(lines(actor('writer-10#4/x:0', 'main/x:0', 'writer-10')));
    socket.write(lines(snapshot('writer-2#3/x:0', 'idle', 'xstate.error.actor.x', AT + 11_000)));
    for (let i = 0; i < 40; i++) {
      socket.write(
        lines(
          actor(`main/x:${100 + i}`, 'main/x:0', `querySession:${i}`),
          snapshot(`main/x:${100 + i}`, 'closed', 'client.left', AT + 11_000, { status: 'done' }),
        ),
      );
    }
    socket.end();
  });
  const result = await runProgram('evctl', ['inspect', '-f', '--debug-socket', server.path]).done;
  assert.equal(
    result.stdout.toString().slice(table.length),
    `12:00:01.123 writer-10  idle → committing   (batch.available)
12:00:01.124 writer-10  committing → idle   (done)
12:00:02.123 writer-10  idle  100 rows  in 1 commits  credit 10,000  waiting 0
12:00:07.623 writer-10  idle  300 rows  in 1 commits  credit 10,000  waiting 0
12:00:11.623 writer-10  idle → committing   (batch.available)   and 49 times since 12:00:01.123
12:00:11.624 writer-10  committing → idle   (done)   and 49 times since 12:00:01.124
12:00:12.123 writer-2  degraded → idle   (failed)
12:00:01.123 querySession:0  started: idle
12:00:12.123 querySession:0  idle → closed  done   (client.left)
`,
  );
});

test('inspect says why eventd turns it away, and that nobody listens', { timeout: 20_000 }, async () => {
  let path = '';
  {
    await using server = await startServer((socket) =>
      socket.end(lines({ type: '@eventd.refused', reason: '8 readers are connected\u001b[2J' })),
    );
    path = server.path;
    const refused = await runProgram('evctl', ['inspect', '--debug-socket', path]).done;
    assert.deepEqual(
      [refused.code, refused.stdout.toString(), refused.stderr],
      [1, '', `evctl: ${path}: 8 readers are connected\\u{1b}[2J\n`],
    );
  }
  const nobody = await runProgram('evctl', ['inspect', '--debug-socket', path]).done;
  assert.equal(nobody.code, 1);
  assert.match(nobody.stderr, /^evctl: [^\n]+\n$/);
  assert.ok(nobody.stderr.includes(path));
});
