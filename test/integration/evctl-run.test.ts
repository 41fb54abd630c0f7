import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { native } from '../../src/native/addon.js';
import { RecordSink } from '../fixtures/recordSink.js';
import { programPath, runProgram } from '../fixtures/runProgram.js';
import { until } from '../fixtures/wireServer.js';

const LIMIT = { timeout: 60_000 };

/** `evctl run` of a shell script. */
function run(sink: RecordSink, script: string, options: readonly string[] = [], input?: string) {
  const args = ['run', '--log-socket', sink.path, ...options, 'job', '--', 'sh', '-c', script];
  return runProgram('evctl', args, input === undefined ? {} : { input });
}

const isThere = (path: string) => () => existsSync(path);

test(
  '[LOG-54] [LOG-57] both outputs come through pipes into the store: name, class, and the time they were read',
  LIMIT,
  async (t) => {
    const sink = new RecordSink(t, 'log').bind().read();
    const before = native.realtimeNs();
    // A socket in place of a pipe could not be opened anew.
    const result = await run(
      sink,
      'echo out; echo err >&2; echo again >/dev/stdout; test -p /dev/stderr && echo pipe',
    ).done;
    assert.deepEqual([result.code, result.stdout.toString(), result.stderr], [0, '', '']);
    const lines = await sink.storedLines(4);
    const of = (isError: bigint) =>
      lines.filter((line) => line.isError === isError).map(({ message }) => message);
    assert.deepEqual(of(0n), ['out', 'again', 'pipe']);
    assert.deepEqual(of(1n), ['err']);
    for (const { origin, timestamp } of lines) {
      assert.equal(origin, 'job');
      assert.ok(timestamp >= before && timestamp <= native.realtimeNs());
    }
  },
);

test(
  '[LOG-57] a line has the time at which it was read, not the time at which eventd came to take it',
  LIMIT,
  async (t) => {
    const sink = new RecordSink(t, 'log');
    const mark = join(sink.directory, 'go');
    const program = run(sink, `echo early; until [ -e ${mark} ]; do sleep 0.05; done; echo late`, ['--tee']);
    await until(() => program.stdout() === 'early\n', 'the first line');
    const between = native.realtimeNs();
    sink.bind().read();
    writeFileSync(mark, '');
    assert.equal((await program.done).code, 0);
    const lines = await sink.storedLines(2);
    assert.deepEqual(
      lines.map(({ message, timestamp }) => [message, timestamp < between]),
      [
        ['early', true],
        ['late', false],
      ],
    );
  },
);

test(
  '[LOG-58] [LOG-59] last line, bad bytes and long lines follow the rules; --tee passes the bytes as they are',
  LIMIT,
  async (t) => {
    const sink = new RecordSink(t, 'log').bind().read();
    const script = "head -c 9000 /dev/zero | tr '\\0' x; printf '\\n\\377\\n\\nlast'; printf oops >&2";
    const result = await run(sink, script, ['--tee']).done;
    assert.equal(result.code, 0);
    assert.deepEqual(
      result.stdout,
      Buffer.concat([Buffer.from(`${'x'.repeat(9000)}\n`), Buffer.from([0xff]), Buffer.from('\n\nlast')]),
    );
    assert.equal(result.stderr, 'oops');
    const lines = await sink.storedLines(5);
    assert.deepEqual(
      lines.filter(({ isError }) => isError === 0n).map(({ message }) => message),
      [`${'x'.repeat(8192)}[truncated]`, '\ufffd', '', 'last'],
    );
    assert.deepEqual(
      lines.filter(({ isError }) => isError === 1n).map(({ message }) => message),
      ['oops'],
    );
  },
);

test('[LOG-63] a command that prints faster than eventd reads waits, and loses nothing', LIMIT, async (t) => {
  const sink = new RecordSink(t, 'log').bind();
  const program = run(sink, 'seq -f "line %.0f of a long output" 1 150000');
  const isFull = () => {
    try {
      native.sendDatagram(sink.path, new Uint8Array([0x90]));
      return false;
    } catch {
      return true;
    }
  };
  await until(isFull, 'the queue to be full');
  sink.read();
  const result = await program.done;
  assert.deepEqual([result.code, result.stderr], [0, '']);
  const lines = await sink.storedLines(150_000);
  for (const [index, { message }] of lines.entries())
    assert.equal(message, `line ${index + 1} of a long output`);
  assert.equal(lines.length, 150_000);
});

test(
  '[LOG-69] without eventd the command runs to its end; the newest lines are kept, one line tells how many were not stored',
  LIMIT,
  async (t) => {
    const sink = new RecordSink(t, 'log');
    const done = join(sink.directory, 'done');
    const go = join(sink.directory, 'go');
    const script = `seq 1 200000; touch ${done}; until [ -e ${go} ]; do sleep 0.05; done; echo end; exit 3`;
    const program = run(sink, script);
    await until(isThere(done), 'the output to be read');
    sink.bind().read();
    writeFileSync(go, '');
    const result = await program.done;
    assert.equal(result.code, 3);
    const lost = /^evctl: run: (\d+) log lines not stored: [^\n]*\n$/.exec(result.stderr)?.[1];
    const kept = 200_000 - Number(lost);
    assert.ok(kept > 10_000 && kept < 40_000, `${kept} lines kept`);
    const lines = await sink.storedLines(kept + 1);
    assert.deepEqual(
      lines.map(({ message }) => message),
      [...Array.from({ length: kept }, (_, i) => String(200_000 - kept + 1 + i)), 'end'],
    );
    const never = await run(new RecordSink(t, 'log'), 'echo one; exit 4').done;
    assert.equal(never.code, 4);
    assert.match(never.stderr, /^evctl: run: 1 log line not stored: .*: no such socket; is it running\?\n$/);
  },
);

test(
  'exit codes: the command its own, 128 + n by signal n, 127 not found, 126 not to be run, 2 wrong usage',
  LIMIT,
  async (t) => {
    const sink = new RecordSink(t, 'log').bind().read();
    for (const [script, code] of [
      ['exit 0', 0],
      ['exit 42', 42],
      ['kill -KILL $$', 137],
      ['kill -TERM $$', 143],
    ] as const)
      assert.equal((await run(sink, script).done).code, code, script);
    const evctl = (...args: string[]) =>
      runProgram('evctl', ['run', '--log-socket', sink.path, ...args]).done;
    const missing = await evctl('job', '--', 'no-such-command');
    assert.deepEqual(
      [missing.code, missing.stderr],
      [127, 'evctl: run: no-such-command: command not found\n'],
    );
    const refused = await evctl('job', '--', '/etc/passwd');
    assert.deepEqual(
      [refused.code, refused.stderr],
      [126, 'evctl: run: /etc/passwd: cannot be run: EACCES\n'],
    );
    for (const args of [
      ['job'],
      ['job', 'true'],
      ['--', 'true'],
      ['a', 'b', '--', 'true'],
      ['', '--', 'true'],
    ])
      assert.equal((await evctl(...args)).code, 2, args.join(' '));
    assert.equal(
      (await runProgram('evctl', ['run', '--log-socket', 'x'.repeat(200), 'job', '--', 'true']).done).code,
      1,
    );
  },
);

test('options behind -- belong to the command; standard input is its own', LIMIT, async (t) => {
  const sink = new RecordSink(t, 'log').bind().read();
  const result = await run(sink, 'cat; printf "%s\\n" -5 --tee', [], 'from stdin\n').done;
  assert.deepEqual([result.code, result.stdout.toString()], [0, '']);
  assert.deepEqual(
    (await sink.storedLines(3)).map(({ message }) => message),
    ['from stdin', '-5', '--tee'],
  );
});

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const)
  test(`${signal} goes to the command, which decides how it ends`, LIMIT, async (t) => {
    const sink = new RecordSink(t, 'log').bind().read();
    const name = signal.slice(3);
    const script = `trap 'echo got ${name}; exit 9' ${name}; echo ready; while :; do sleep 0.05; done`;
    const program = run(sink, script, ['--tee']);
    t.after(() => program.child.kill('SIGKILL'));
    await until(() => program.stdout() === 'ready\n', 'the trap');
    program.child.kill(signal);
    assert.equal((await program.done).code, 9);
    assert.deepEqual(
      (await sink.storedLines(2)).map(({ message }) => message),
      ['ready', `got ${name}`],
    );
  });

test('Ctrl-C at a terminal reaches the command once', LIMIT, async (t) => {
  const sink = new RecordSink(t, 'log').bind().read();
  const go = join(sink.directory, 'go');
  const job = join(sink.directory, 'job.mjs');
  writeFileSync(
    job,
    `import { existsSync } from 'node:fs';
    process.on('SIGINT', () => console.log('got it'));
    setInterval(() => {
      if (!existsSync(${JSON.stringify(go)})) return;
      console.log('over');
      process.exit(5);
    }, 50);
    console.log('ready');`,
  );
  const node = process.execPath;
  // The shell makes way: one that stayed would be in the terminal's group, and end by the Ctrl-C itself.
  const command = `exec ${node} ${programPath('evctl')} run --log-socket ${sink.path} job -- ${node} ${job}`;
  const terminal = spawn('script', ['-qefc', command, join(sink.directory, 'typescript')]);
  t.after(() => terminal.kill('SIGKILL'));
  const ended = new Promise<number | null>((resolve) => terminal.once('exit', resolve));
  await sink.storedLines(1);
  terminal.stdin.write('\x03');
  await sink.storedLines(2);
  writeFileSync(go, '');
  assert.equal(await ended, 5);
  // A second one would have come before the end of the command.
  assert.deepEqual(
    (await sink.storedLines(3)).map(({ message }) => message),
    ['ready', 'got it', 'over'],
  );
});

test('a reader of the copy that goes away ends neither the command nor the capture', LIMIT, async (t) => {
  const sink = new RecordSink(t, 'log').bind().read();
  const go = join(sink.directory, 'go');
  const program = run(sink, `echo one; until [ -e ${go} ]; do sleep 0.05; done; seq 1 20000; exit 6`, [
    '--tee',
  ]);
  await until(() => program.stdout() === 'one\n', 'the first line');
  program.child.stdout.destroy();
  writeFileSync(go, '');
  assert.equal((await program.done).code, 6);
  assert.equal((await sink.storedLines(20_001)).length, 20_001);
});

test('processes that the command leaves behind do not hold it up', LIMIT, async (t) => {
  const sink = new RecordSink(t, 'log').bind().read();
  const program = run(sink, 'sleep 50 & echo $!; exit 8', ['--tee']);
  t.after(() => process.kill(Number(program.stdout()), 'SIGKILL'));
  assert.equal((await program.done).code, 8);
  assert.deepEqual(
    (await sink.storedLines(1)).map(({ message }) => `${message}\n`),
    [program.stdout()],
  );
});
