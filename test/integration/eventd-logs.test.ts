/** Log records through the whole program: socket in, store, queries out; starts, stops and crashes. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { encode } from '@msgpack/msgpack';
import { formatGuid, parseGuid } from '../../src/host/guid.js';
import { addonPath, native } from '../../src/native/addon.js';
import { DebugReader } from '../fixtures/debugReader.js';
import { datagramLoad } from '../fixtures/dgramload.js';
import { BOOT_A, BOOT_B, EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords, line, numbered, numbersOf, STORES, saidBy } from '../fixtures/eventdRecords.js';
import { isRoot } from '../fixtures/kmesd.js';
import { runProgram } from '../fixtures/runProgram.js';

const LIMIT = { timeout: 90_000 };

test(
  '[LOG-1, LOG-4, LOG-5, LOG-8, LOG-13, LOG-14, LOG-15, LOG-24, LOG-33, LOG-37, LOG-39, LOG-40, LIFE-105, LIFE-116, LIFE-118, LIFE-121, HOST-70] whoever writes to the socket is stored unjudged, in a file made with its directories, and found by LOGS',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t);
    const logs = join(world.dir, 'deep', 'er', 'lines.db');
    world.writeHive({ LogStorePath: logs });
    // The sockets are open to all services whatever the umask is.
    const umask = process.umask(0o077);
    const run = await world.start();
    process.umask(umask);
    const records = new EventdRecords(world);
    for (const store of STORES) {
      const { mode } = statSync(records.socket(store));
      assert.equal(mode & 0o777, 0o666, store);
    }
    assert.equal(statSync(logs).mode & 0o777, 0o600, 'what services print is not for everybody');

    const stamp = 1_700_000_000_123_456_789n;
    await records.send('log', line('{"level": "fatal"}', { timestamp: stamp }));
    await records.send('log', [
      line('', { origin: 'eventd', is_error: true, timestamp: stamp + 1n }),
      line('two\nlines', { timestamp: stamp + 2n, boot_id: 'mine', severity: 9 }),
    ]);
    const read = await eventually('three records', async () => {
      const found = await records.ask('LOGS SORT timestamp ASC');
      return found.length >= 3 && found;
    });
    const boot_id = formatGuid(parseGuid(BOOT_A));
    assert.deepEqual(read, [
      { timestamp: stamp, origin: 'svc', is_error: false, message: '{"level": "fatal"}', boot_id },
      { timestamp: stamp + 1n, origin: 'eventd', is_error: true, message: '', boot_id },
      { timestamp: stamp + 2n, origin: 'svc', is_error: false, message: 'two\nlines', boot_id },
    ]);
    assert.deepEqual(
      (await records.ask('LOGS ERROR ONLY')).map(({ origin }) => origin),
      ['eventd'],
      'an origin is what its sender says',
    );

    // Another user may send as well.
    for (const path of [world.dir, world.paths.run]) chmodSync(path, 0o711);
    const sender = spawn(
      join(dirname(addonPath), 'dgramload'),
      [records.socket('log'), '--kind', 'log', '--datagrams', '20'],
      isRoot ? { uid: 65_534, gid: 65_534, stdio: 'ignore' } : { stdio: 'ignore' },
    );
    assert.deepEqual(await once(sender, 'exit'), [0, null]);
    await eventually('the lines of the other user', async () => (await world.query('LOGS')).length === 23);
    assert.deepEqual(world.syntheticIn(0, 'synthetic.gap'), [], 'logs know no gaps');
    assert.deepEqual(await run.end(), { code: 0, signal: null });
  },
);

interface BadStart {
  readonly name: string;
  readonly prepare: (world: EventdWorld, t: TestContext) => void;
  readonly says: RegExp;
}

const withoutLine = (world: EventdWorld, key: string): void => {
  const lines = readFileSync(world.paths.hive, 'utf8').split('\n');
  writeFileSync(world.paths.hive, lines.filter((text) => !text.startsWith(`"${key}"`)).join('\n'));
};

const BAD_STARTS: readonly BadStart[] = [
  {
    name: '[MET-14] [CFG-10] without MetricSocketPath',
    prepare: (world) => withoutLine(world, 'MetricSocketPath'),
    says: /configuration: .*MetricSocketPath/,
  },
  {
    name: '[LOG-6] with a log socket path no socket can have',
    prepare: (world) => world.writeHive({ LogSocketPath: `/tmp/${'x'.repeat(110)}` }),
    says: /configuration: .*LogSocketPath/,
  },
  {
    name: '[LOG-37] [LOG-38] with a directory as log store',
    prepare: (world) => mkdirSync(world.paths.logs, { recursive: true }),
    says: /storage: .*logs\.db: is not a file/,
  },
  {
    name: '[MET-51] [MET-52] [LIFE-106] with a metric store below a file',
    prepare: (world) => world.writeHive({ MetricStorePath: `${world.paths.hive}/metrics.db` }),
    says: /storage: .*metrics\.db/,
  },
  {
    name: '[LIFE-116] with a file where the log socket belongs',
    prepare: (world) => writeFileSync(world.paths.logSocket, 'precious'),
    says: /sockets: .*log\.sock: exists and is no socket/,
  },
  {
    name: '[LIFE-117] [HOST-50] with another process on the metric socket',
    prepare: (world, t) => {
      const other = native.receiverOpen({
        path: world.paths.metricSocket,
        mode: 0o600,
        capacityBytes: 1 << 16,
      });
      t.after(() => native.receiverClose(other));
    },
    says: /sockets: .*metric\.sock: another process/,
  },
];

for (const { name, prepare, says } of BAD_STARTS) {
  test(`[LIFE-101] [LIFE-131] [LIFE-132] a start fails with one line ${name}`, LIMIT, async (t) => {
    const world = EventdWorld.for(t, { cpus: 1 });
    prepare(world, t);
    const before = readdirSync(world.paths.run).sort();
    const run = world.spawn();
    assert.deepEqual(await run.exited, { code: 1, signal: null });
    const lines = run.stderr.split('\n').filter((text) => text !== '' && !text.startsWith('{'));
    assert.equal(lines.length, 1, run.stderr);
    assert.match(lines[0] ?? '', says);
    assert.equal(run.readyCount, 0);
    assert.deepEqual(readdirSync(world.paths.run).sort(), before, 'no socket is left, none is taken');
  });
}

test(
  '[LIFE-116, LIFE-132, FAIL-31] a second eventd on the log socket of a first one fails, and the first keeps its senders',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, { cpus: 1 });
    await world.start();
    const second = EventdWorld.for(t, { cpus: 1, settings: { LogSocketPath: world.paths.logSocket } });
    const run = second.spawn();
    assert.deepEqual(await run.exited, { code: 1, signal: null });
    assert.match(run.stderr, /^eventd: sockets: .*log\.sock: another process answers on this socket$/m);
    const records = new EventdRecords(world);
    await records.send('log', line('still here'));
    await records.stored('log', 1);
  },
);

test(
  '[LIFE-220, LIFE-221, LIFE-222, LIFE-223, LIFE-116, LIFE-117, LOG-43, LOG-48] kill -9 in the middle of a flow costs what was not committed, and nothing else; stale sockets are taken over; boots do not mix',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, { cpus: 1 });
    const records = new EventdRecords(world);
    const first = await world.start();
    let sent = 0;
    let killed = false;
    const flow = (async () => {
      for (; !killed; sent += 50) {
        const datagram = encode(Array.from({ length: 50 }, (_, i) => numbered('log', sent + i)));
        try {
          await records.sendRaw('log', datagram);
          await turn();
        } catch (error) {
          assert.equal((error as NodeJS.ErrnoException).code, 'ECONNREFUSED');
          return;
        }
      }
    })();
    const committed = await eventually('some commits', () => {
      const count = records.count('log');
      return count > 2000 && count;
    });
    await first.end('SIGKILL');
    killed = true;
    await flow;
    assert.deepEqual(
      readdirSync(world.paths.run).filter((name) => /^(log|metric)\.sock$/.test(name)),
      ['log.sock', 'metric.sock'],
      'the crash left the files',
    );

    const run = await world.start({ PEIOS_BOOT_ID: BOOT_B });
    const kept = numbersOf(records.logs());
    assert.ok(kept.length >= committed && kept.length <= sent, `${kept.length} of ${sent}`);
    assert.deepEqual(
      kept,
      kept.map((_, i) => i),
      'what is kept is the beginning, in order, once',
    );
    await records.send('log', line('after'));
    await records.stored('log', kept.length + 1);
    const [newest] = await records.ask('LOGS TAKE 1');
    assert.equal(newest?.message, 'after');
    assert.equal(newest?.boot_id, formatGuid(parseGuid(BOOT_B)));
    assert.equal((await world.query(`LOGS WHERE boot_id == "${BOOT_B}"`)).length, 1);
    assert.deepEqual(world.synthetic('synthetic.storage_error', BOOT_B), []);
    assert.deepEqual(await run.end(), { code: 0, signal: null });
  },
);

test(
  '[LIFE-141, LIFE-142, CFG-23, CFG-24, CFG-25, CFG-26, CFG-37, MET-33, MET-37, LOG-28, MET-40] limits that change while eventd runs hold at once, each with its record; paths wait for a restart',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, { cpus: 1, settings: { HealthMetricIntervalSeconds: 0 } });
    const records = new EventdRecords(world);
    await world.start();
    const reader = new DebugReader(world.paths.debugSocket);
    t.after(() => reader.close());
    await reader.ready();
    const latest = (name: string) => {
      const id = reader.lines.find((entry) => entry.name === name)?.sessionId;
      return reader.lines.findLast(({ sessionId, snapshot }) => sessionId === id && snapshot !== undefined);
    };
    const commits = (name: string) => Number(latest(name)?.snapshot?.context?.commits);

    const changes = [
      ['LogMaxBatchSize', 100],
      ['LogMaxBatchLatencyMs', 20],
      ['MetricMaxBatchSize', 200],
      ['MetricMaxBatchLatencyMs', 30],
      ['MetricSeriesCacheSize', 1000],
    ] as const;
    for (const [key, value] of changes) await world.set(key, String(value));
    await world.set('LogStorePath', join(world.dir, 'elsewhere.db'));
    const told = await eventually('five changes', () => {
      const found = world.synthetic('synthetic.config_change');
      return found.length >= 5 && found;
    });
    assert.deepEqual(
      told.map(({ payload }) => [payload.key_name, Number(payload.new_value)]),
      changes,
      'in order, and none for a path',
    );
    const expected = {
      'log-writer': { maxBatchSize: 100, maxBatchLatencyMs: 20, seriesCacheSize: null },
      'metric-writer': { maxBatchSize: 200, maxBatchLatencyMs: 30, seriesCacheSize: 1000 },
    };
    for (const [name, limits] of Object.entries(expected))
      await eventually(`the limits of ${name}`, () => {
        const { context } = latest(name)?.snapshot ?? {};
        return JSON.stringify(context?.limits) === JSON.stringify(limits);
      });

    // What waits behind a lock is committed in transactions of the new size.
    const once = async (rows: number, total: number) => {
      const before = STORES.map((store) => commits(`${store}-writer`));
      const unlock = STORES.map((store) => records.lock(store));
      for (const store of STORES) await records.sendNumbered(store, 0, rows);
      for (const open of unlock) open();
      for (const store of STORES) await records.stored(store, total);
      return Promise.all(
        STORES.map((store, i) =>
          eventually(`the figures of the ${store} writer`, () => {
            const { context } = latest(`${store}-writer`)?.snapshot ?? {};
            return Number(context?.records) === total && commits(`${store}-writer`) - (before[i] ?? 0);
          }),
        ),
      );
    };
    const [logs = 0, samples = 0] = await once(2000, 2000);
    assert.ok(logs >= 20 && samples >= 10, `${logs} and ${samples} transactions`);
    await world.set('LogMaxBatchSize', '5000');
    await world.set('MetricMaxBatchSize', '5000');
    await eventually('two more changes', () => world.synthetic('synthetic.config_change').length === 7);
    const [fewer = 0, less = 0] = await once(2000, 4000);
    assert.ok(fewer <= 8 && less <= 8, `${fewer} and ${less} transactions`);
    assert.ok(!existsSync(join(world.dir, 'elsewhere.db')));
  },
);

test(
  '[LIFE-201, LIFE-202, LIFE-204, LIFE-207, LOG-46, LOG-48, MET-40] a stop stores what waits in the kernel’s queue and behind the writer, refuses the rest, and leaves plain files',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, { cpus: 1, settings: { HealthMetricIntervalSeconds: 0 } });
    const records = new EventdRecords(world);
    const run = await world.start();
    const unlock = STORES.map((store) => records.lock(store));
    for (const store of STORES) await records.sendNumbered(store, 0, 3000);
    run.kill('SIGSTOP');
    await eventually('eventd to stand still', () =>
      /^State:\s+T/m.test(readFileSync(`/proc/${run.pid}/status`, 'latin1')),
    );
    const expected = STORES.map((store) => {
      let next = 3000;
      while (records.offer(store, encode(numbered(store, next)))) next++;
      return next;
    });
    assert.ok(
      expected.every((count) => count > 3005 && count < 4000),
      `the queue is short: ${expected}`,
    );
    run.kill('SIGTERM');
    run.kill('SIGCONT');
    await eventually('the sockets to go', () => STORES.every((store) => !existsSync(records.socket(store))));
    for (const store of STORES)
      assert.throws(() => records.offer(store, encode(numbered(store, -1))), { code: 'ENOENT' });
    for (const open of unlock) open();
    assert.deepEqual(await run.exited, { code: 0, signal: null });
    assert.deepEqual(
      readdirSync(world.dir).filter((name) => /-(wal|shm)$/.test(name)),
      [],
      'the WALs are in their databases',
    );
    STORES.forEach((store, i) => {
      const stored = numbersOf(store === 'log' ? records.logs() : records.samples());
      assert.deepEqual(
        stored,
        Array.from({ length: expected[i] ?? 0 }, (_, n) => n),
        store,
      );
    });
    await world.start();
    assert.equal((await world.query('LOGS TAKE 5')).length, 5);
  },
);

test(
  '[LIFE-200, LIFE-210, LIFE-211] a log writer that hangs at the stop costs its own batch: the others store what they have, one line, aborted at the bound',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, { cpus: 1, settings: { HealthMetricIntervalSeconds: 0 } });
    const records = new EventdRecords(world);
    await world.setServiceTimeout(3);
    const run = await world.start();
    const unlock = records.lock('log');
    t.after(unlock);
    for (const store of STORES) await records.sendNumbered(store, 0, 100);
    world.emit(0, 'test.event');
    const asked = performance.now();
    assert.deepEqual(await run.end(), { code: null, signal: 'SIGKILL' });
    assert.ok(performance.now() - asked < 2900, 'within the bound of 2 s, and its own abort');
    assert.deepEqual(
      saidBy(run).map((text) => text.replace(/\d+ ms/, 'N ms')),
      [
        'final commit: the log writer did not commit within N ms',
        'shutdown did not finish within N ms; aborting',
      ],
    );
    unlock();
    await records.stored('metric', 100);
    assert.equal(records.count('log'), 0);
    assert.equal(world.rows(0, "event_type = 'test.event'").length, 1);
    assert.equal(world.synthetic('synthetic.shutdown').length, 1);
    await world.start();
    assert.equal((await records.ask('METRIC n[]')).length, 1);
  },
);

test(
  '[LOG-11, LOG-24, FAIL-31, MET-16] senders never wait for a store whose writer is held up, and one path does not hold up the other',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, { cpus: 1, settings: { HealthMetricIntervalSeconds: 0 } });
    const records = new EventdRecords(world);
    await world.start();
    const unlock = records.lock('log');
    t.after(unlock);
    // 20 MB of lines: more than the buffer holds. A blocking send that waited for the lock would take seconds.
    const flood = await datagramLoad(records.socket('log'), { datagrams: 20_000, message: 1000 });
    assert.ok(flood.maxus < 2_000_000, `one send took ${flood.maxus} µs`);
    await records.sendNumbered('metric', 0, 100);
    await records.stored('metric', 100);
    world.emit(0, 'test.event');
    await world.stored(0);
    unlock();
    await records.send('log', line('last'));
    await eventually('the last line', () => records.logs("message = 'last'").length === 1);
    const stored = records.count('log') - 1;
    assert.ok(stored > 1000 && stored < 20_000, `${stored} of 20000: what found the buffer full is dropped`);
    assert.deepEqual(records.errors('log'), []);
    const { stdout } = await runProgram('evctl', [
      'inspect',
      '--json',
      '--debug-socket',
      world.paths.debugSocket,
    ]).done;
    const figures = stdout
      .toString()
      .split('\n')
      .filter((text) => text.includes('@eventd.figures'))
      .map((text) => JSON.parse(text) as { figures: Record<string, Record<string, unknown>> });
    const { dropped, rows } = figures.at(-1)?.figures['log-writer'] ?? {};
    assert.equal(Number(dropped) + Number(rows), 20_001, 'every datagram is stored or counted');
  },
);
