import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { decodeMulti } from '@msgpack/msgpack';
import { encodeEnd, encodeError, encodeResult, type WireRecord } from '../../src/wire/messages.js';
import { runProgram } from '../fixtures/runProgram.js';
import { startServer, startWireServer, until } from '../fixtures/wireServer.js';

const directory = mkdtempSync(join(tmpdir(), 'evctl-'));
after(() => rmSync(directory, { recursive: true, force: true }));

const T = 1_777_636_801_123_456_789n;
const event: WireRecord = {
  timestamp: T,
  cpu_id: 0n,
  sequence: 124n,
  origin_class: 2n,
  event_type: 'kacs.denied',
  pid: 42n,
};
const gap: WireRecord = {
  timestamp: T,
  cpu_id: 0n,
  sequence: null,
  origin_class: null,
  event_type: 'synthetic.gap',
  first_missing: 5n,
  last_missing: 124n,
  missing_count: 120n,
  cause: 'ring_loss',
};

const answering = (...frames: Uint8Array[]) =>
  startWireServer((_, socket) => socket.end(Buffer.concat(frames)));

test('[WIRE-5] evctl prints the records of a query in order, gap records in their place', async () => {
  await using server = await answering(encodeResult([event, gap]), encodeResult([event]), encodeEnd());
  const result = await runProgram('evctl', ['-s', server.path, 'EVENTS TAKE 3']).done;
  assert.equal(result.stderr, '');
  assert.equal(result.code, 0);
  const line = '2026-05-01T12:00:01.123456Z  0/124  kacs.denied  pid=42\n';
  assert.equal(
    result.stdout.toString(),
    `${line}2026-05-01T12:00:01.123456Z  ── gap cpu 0: 120 events lost (seq 5–124, ring_loss) ──\n${line}`,
  );
  assert.deepEqual(server.queries, ['EVENTS TAKE 3']);
});

test("[WIRE-4] the query comes from a file, from standard input or from $EVENTD_SOCKET's server alike", async () => {
  await using server = await startWireServer((_, socket) =>
    socket.end(Buffer.concat([encodeResult([]), encodeEnd()])),
  );
  const file = join(directory, 'query.txt');
  writeFileSync(file, 'EVENTS -- from a file\n TAKE 1\n');
  const env = { EVENTD_SOCKET: server.path };
  assert.equal((await runProgram('evctl', ['--file', file], { env }).done).code, 0);
  assert.equal((await runProgram('evctl', ['-'], { env, input: 'LOGS TAKE 2\n' }).done).code, 0);
  assert.deepEqual(server.queries, ['EVENTS -- from a file\n TAKE 1', 'LOGS TAKE 2']);
});

test('[WIRE-10] jsonl and msgpack keep 64-bit integers', async () => {
  const record = { big: 18446744073709551615n, f: 1 };
  await using server = await startWireServer((_, socket) =>
    socket.end(Buffer.concat([encodeResult([record, record]), encodeEnd()])),
  );
  const json = await runProgram('evctl', ['-s', server.path, '-o', 'jsonl', 'EVENTS']).done;
  assert.equal(json.stdout.toString(), '{"big":18446744073709551615,"f":1.0}\n'.repeat(2));
  const raw = await runProgram('evctl', ['-s', server.path, '--format', 'msgpack', 'EVENTS']).done;
  assert.deepEqual([...decodeMulti(raw.stdout, { useBigInt64: true })], [record, record]);
});

test('[WIRE-20] a parse error is one line and a caret, after the records before it, exit 2', async () => {
  await using server = await answering(
    encodeResult([{ count: 1n }]),
    encodeError('parse error: character 8: expected a clause'),
  );
  const result = await runProgram('evctl', ['-s', server.path, 'EVENTS WERE a == 1']).done;
  assert.equal(result.code, 2);
  assert.equal(result.stdout.toString(), 'count=1\n');
  assert.equal(
    result.stderr,
    'evctl: parse error: character 8: expected a clause\n  EVENTS WERE a == 1\n         ^\n',
  );
});

test('[WIRE-20] an error text cannot write to the terminal', async () => {
  await using server = await answering(encodeError('timeout: \u001b[2Jgone'));
  const result = await runProgram('evctl', ['-s', server.path, 'EVENTS']).done;
  assert.equal(result.code, 1);
  assert.equal(result.stderr, 'evctl: timeout: \\u{1b}[2Jgone\n');
});

test('an empty query is wrong usage, found without asking eventd', async () => {
  const result = await runProgram('evctl', ['-s', join(directory, 'none.sock'), ' ']).done;
  assert.equal(result.code, 2);
  assert.equal(result.stderr, 'evctl: the query is empty (see evctl --help)\n');
});

test('no eventd: one line that says so, exit 1', async () => {
  const result = await runProgram('evctl', ['-s', join(directory, 'none.sock'), 'EVENTS']).done;
  assert.equal(result.code, 1);
  assert.match(result.stderr, /^evctl: .*none\.sock: no such socket; is it running\?\n$/);
});

test('[WIRE-9] --timeout ends the wait for an eventd that says nothing, exit 1', async () => {
  await using silent = await startServer(() => undefined);
  const failure = `evctl: ${silent.path}: eventd has not answered within 0.1 s (--timeout)\n`;
  const forms = [
    ['-s', silent.path, 'EVENTS TAKE 1'],
    ['-s', silent.path, '-f', 'EVENTS'],
    ['inspect', '--debug-socket', silent.path],
  ];
  const results = await Promise.all(
    forms.map((form) => runProgram('evctl', [...form, '--timeout', '0.1']).done),
  );
  for (const { code, stderr } of results) assert.deepEqual([code, stderr], [1, failure]);
  await using halting = await startWireServer((_, socket) => socket.write(encodeResult([event])));
  const halted = await runProgram('evctl', ['-s', halting.path, '--timeout', '0.1', 'EVENTS']).done;
  assert.equal(halted.stderr, failure.replace(silent.path, halting.path));
  assert.match(halted.stdout.toString(), /kacs.denied/);
});

test('[WIRE-9] a connection lost in the middle: exit 1', async () => {
  await using server = await answering(encodeResult([event]));
  const result = await runProgram('evctl', ['-s', server.path, 'EVENTS']).done;
  assert.equal(result.code, 1);
  assert.match(result.stderr, /closed before the end of the result\n$/);
});

for (const [what, args] of [
  ['an unknown option', ['--frobnicate', 'EVENTS']],
  ['an option of another command', ['--json', 'EVENTS']],
  ['no query', []],
  ['an unquoted query', ['EVENTS', 'TAKE', '1']],
  ['a query and a file', ['--file', '/dev/null', 'EVENTS']],
  ['an unknown format', ['-o', 'xml', 'EVENTS']],
  ['emit without JSON', ['emit', 'a.b']],
  ['an unknown registry command', ['registry', 'frobnicate']],
  ['inspect with an argument', ['inspect', 'x']],
] as const) {
  test(`wrong usage (${what}) exits 2 with one line`, async () => {
    const result = await runProgram('evctl', args, { input: '' }).done;
    assert.equal(result.code, 2, result.stderr);
    assert.match(result.stderr, /^evctl: [^\n]+ \(see evctl[^\n]* --help\)\n$/);
    assert.equal(result.stdout.length, 0);
  });
}

test("help lists every option of the command and no other; version is the package's", async () => {
  const help = await runProgram('evctl', ['--help']).done;
  assert.equal(help.code, 0);
  for (const flag of [
    '--socket PATH',
    '--file PATH',
    '--format pretty|jsonl|csv|msgpack',
    '--no-color',
    '--version',
  ])
    assert.ok(help.stdout.includes(flag), flag);
  assert.ok(!help.stdout.includes('--json') && !help.stdout.includes('--kmes'));
  assert.ok((await runProgram('evctl', ['inspect', '--help']).done).stdout.includes('--json'));
  const version = await runProgram('evctl', ['--version']).done;
  assert.match(version.stdout.toString(), /^evctl \d+\.\d+\.\d+\n$/);
});

test('[QX-64] SIGINT ends a query with 130 and closes the connection', { timeout: 20_000 }, async () => {
  await using server = await startWireServer((_, socket) => {
    socket.write(encodeResult([event]));
    socket.resume();
  });
  const evctl = runProgram('evctl', ['-s', server.path, 'EVENTS']);
  await until(() => evctl.stdout().includes('kacs.denied'), 'the first record');
  evctl.child.kill('SIGINT');
  const result = await evctl.done;
  assert.deepEqual([result.code, result.signal, result.stderr], [130, null, '']);
  await server.closed(0);
});

test('--since, --until and --limit are clauses, also behind a comment', async () => {
  await using server = await answering(encodeResult([]), encodeEnd());
  const result = await runProgram('evctl', [
    ...['-s', server.path, '--since', '1h ago', '-U', 'today', '--limit', '0x10'],
    'EVENTS a.* -- what else',
  ]).done;
  assert.deepEqual([result.code, result.stderr], [0, '']);
  assert.deepEqual(server.queries, ['EVENTS a.* -- what else\nSINCE 1h ago UNTIL today TAKE 0x10']);
});

test('[QL-116] [QL-107] --since completes a query that needs SINCE', async () => {
  await using server = await answering(encodeResult([]), encodeEnd());
  const asked = ['EVENTS WHERE METRIC a > 1', 'METRIC a AVG_OVER 5m'];
  for (const query of asked) {
    const result = await runProgram('evctl', ['-s', server.path, '--since', '1h ago', query]).done;
    assert.deepEqual([result.code, result.stderr], [0, '']);
  }
  assert.deepEqual(
    server.queries,
    asked.map((query) => `${query}\nSINCE 1h ago`),
  );
  const incomplete = await runProgram('evctl', ['-s', server.path, '-n', '3', 'METRIC a AVG_OVER 5m']).done;
  assert.equal(incomplete.code, 2);
  assert.match(incomplete.stderr, /^evctl: parse error: [^\n]*SINCE/);
});

test('[QL-9] a query file that is not valid UTF-8 is refused, exit 2; a byte order mark is no text', async () => {
  await using server = await answering(encodeResult([]), encodeEnd());
  const file = join(directory, 'encoded');
  const run = async (bytes: Buffer) => {
    writeFileSync(file, bytes);
    return runProgram('evctl', ['-s', server.path, '--file', file]).done;
  };
  const refused = await run(Buffer.from('EVENTS \xff', 'latin1'));
  assert.deepEqual([refused.code, refused.stderr], [2, `evctl: ${file}: query is not valid UTF-8\n`]);
  assert.equal((await run(Buffer.from('\ufeffEVENTS é\n'))).code, 0);
  assert.deepEqual(server.queries, ['EVENTS é']);
});

test('[WIRE-20] an option that adds a clause to a text that does not parse shows where, exit 2', async () => {
  const result = await runProgram('evctl', ['-n', '3', 'EVENTS TAEK 4']).done;
  assert.equal(result.code, 2);
  assert.match(result.stderr, /^evctl: parse error: character 13: [^\n]+\n {2}EVENTS TAEK 4\n {14}\^\n$/);
});

test('groups of an aggregation are a table over all result messages', async () => {
  const group = (event_type: string, count: bigint) => ({ event_type, count });
  await using server = await answering(
    encodeResult([group('a.much.longer.type', 3n), group('界', 12345n)]),
    encodeResult([group('b', 1n)]),
    encodeEnd(),
  );
  const result = await runProgram('evctl', ['-s', server.path, 'EVENTS COUNT BY event_type']).done;
  assert.equal(
    result.stdout.toString(),
    [
      'event_type          count',
      'a.much.longer.type      3',
      '"界"                12345',
      'b                       1',
      '',
    ].join('\n'),
  );
});

test('csv: columns of SELECT in their order, of the first message where nobody names them', async () => {
  const rows = [
    { ...event, text: 'a "b", c\nd', n: null, empty: '' },
    { ...event, late: { deep: [1n, 2.5] }, big: 2n ** 64n - 1n },
  ];
  await using server = await startWireServer((query, socket) => {
    const first = query.includes('SELECT') ? [{ n: 1n, text: 'x' }, { text: 'y' }] : rows.slice(0, 1);
    socket.write(encodeResult(query.includes('nothing') ? [] : first));
    socket.end(Buffer.concat([encodeResult(query.includes('SELECT') ? [] : rows.slice(1)), encodeEnd()]));
  });
  const csv = async (query: string) =>
    (await runProgram('evctl', ['-s', server.path, '-o', 'csv', query]).done).stdout.toString();
  assert.equal(await csv('EVENTS SELECT text, n'), 'text,n\r\nx,1\r\ny,\r\n');
  assert.equal(await csv('EVENTS nothing SELECT a'), 'a\r\n');
  const head =
    'timestamp,cpu_id,sequence,origin_class,event_type,effective_token_guid,true_token_guid,process_guid,boot_id';
  const line = '2026-05-01T12:00:01.123456789Z,0,124,2,kacs.denied,,,,';
  assert.equal(
    await csv('EVENTS'),
    `${head},pid,text,n,empty,*\r\n${line},42,"a ""b"", c\nd",,"",\r\n` +
      `${line},42,,,,"{""late"":{""deep"":[1,2.5]},""big"":18446744073709551615}"\r\n`,
  );
});

test('[QX-64] a closed reader of standard output ends evctl quietly with 0', {
  timeout: 20_000,
}, async () => {
  const frame = encodeResult(Array.from({ length: 500 }, () => event));
  await using server = await startWireServer((_, socket) => {
    const pump = () => {
      while (socket.write(frame));
    };
    socket.on('drain', pump);
    pump();
  });
  const evctl = runProgram('evctl', ['-s', server.path, 'EVENTS']);
  await until(() => evctl.stdout().length > 0, 'output');
  evctl.child.stdout.destroy();
  const result = await evctl.done;
  assert.deepEqual([result.code, result.signal, result.stderr], [0, null, '']);
});

const actor = (sessionId: string, parentId: string | null, name: string) => ({
  type: '@xstate.actor',
  name,
  sessionId,
  ...(parentId === null ? {} : { parentId }),
  rootId: 'main:0',
  id: null,
  createdAt: '1777636801123',
  _version: '0',
});
const snapshot = (
  sessionId: string,
  value: unknown,
  event: string,
  context: object = {},
  status = 'active',
) => ({
  type: '@xstate.snapshot',
  sessionId,
  rootId: 'main:0',
  event: { type: event },
  snapshot: { status, value, context, tags: ['healthy'] },
  id: null,
  createdAt: '1777636801123',
  _version: '0',
});
const lines = (...messages: object[]) => messages.map((message) => `${JSON.stringify(message)}\n`).join('');
const burst = lines(
  actor('main:0', null, 'daemon'),
  snapshot('main:0', 'ready', 'xstate.init'),
  actor('w:1', 'main:0', 'writer-0'),
  snapshot('w:1', { commit: 'idle', index: 'converged' }, 'xstate.init', {
    zeta: 1,
    rows: '9007199254740993',
    label: 'x',
    shard: 0,
  }),
  actor('r:1', 'main:0', 'reader-0'),
);
const tree = `daemon       ready [healthy]
├─ reader-0  active
└─ writer-0  idle, converged [healthy]  shard 0  rows 9007199254740993
`;

test('inspect prints the tree of actors after the initial burst', { timeout: 20_000 }, async () => {
  await using server = await startServer((socket) =>
    socket.write(`${burst}${lines({ type: '@eventd.ready' })}`),
  );
  const result = await runProgram('evctl', ['inspect', '--debug-socket', server.path]).done;
  assert.deepEqual([result.code, result.stdout.toString(), result.stderr], [0, tree, '']);
});

test('inspect takes a silence for the end of the burst, and passes over what it does not know', {
  timeout: 20_000,
}, async () => {
  await using server = await startServer((socket) =>
    socket.write(`not json\n[1]\n${burst}${lines({ type: '@xstate.microstep', sessionId: 'w:1' })}`),
  );
  const result = await runProgram('evctl', ['inspect'], { env: { EVENTD_DEBUG_SOCKET: server.path } }).done;
  assert.deepEqual([result.code, result.stdout.toString()], [0, tree]);
});

test('inspect --follow prints one line per transition and none for mere events', {
  timeout: 20_000,
}, async () => {
  await using server = await startServer((socket) => {
    socket.write(`${burst}${lines({ type: '@eventd.ready' })}`);
    socket.write(
      lines(
        snapshot('w:1', { commit: 'committing', index: 'converged' }, 'batch.available'),
        snapshot('w:1', { commit: 'committing', index: 'converged' }, 'tick'),
        { ...snapshot('w:1', 'x', 'x'), type: '@xstate.event' },
        actor('q:7', 'main:0', 'session-7\u001b[2J'),
        snapshot('q:7', 'closed', 'query.done', {}, 'done'),
      ),
    );
    socket.end();
  });
  const result = await runProgram('evctl', ['inspect', '-f', '--debug-socket', server.path]).done;
  assert.equal(
    result.stdout.toString(),
    `${tree}12:00:01.123 writer-0  idle, converged → committing, converged   (batch.available)
12:00:01.123 session-7\\u{1b}[2J  started
12:00:01.123 session-7\\u{1b}[2J  closed  done   (query.done)
`,
  );
  assert.equal(result.code, 1);
  assert.match(result.stderr, /closed the debug socket/);
});

test('inspect --follow ends with 0 on SIGINT: it has no other end', { timeout: 20_000 }, async () => {
  await using server = await startServer((socket) =>
    socket.write(`${burst}${lines({ type: '@eventd.ready' })}`),
  );
  const run = runProgram('evctl', ['inspect', '-f', '--debug-socket', server.path]);
  await until(() => run.stdout().includes('writer-0'), 'the tree');
  run.child.kill('SIGINT');
  const result = await run.done;
  assert.deepEqual([result.code, result.stderr], [0, '']);
});
