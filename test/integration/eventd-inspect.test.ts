/** The debug socket of the real eventd: every actor of every thread, whatever the event path goes through. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { DebugReader } from '../fixtures/debugReader.js';
import { type EventdRun, EventdWorld, eventually } from '../fixtures/eventd.js';
import { isRoot } from '../fixtures/kmesd.js';
import { runProgram } from '../fixtures/runProgram.js';

function look(t: TestContext, world: EventdWorld): DebugReader {
  const reader = new DebugReader(world.paths.debugSocket);
  t.after(() => reader.close());
  return reader;
}

/** Names of what runs now, without the one-shot tasks of other actors. */
const actorsOf = (reader: DebugReader) =>
  [...reader.states()].filter(([, value]) => value !== undefined).map(([name]) => name);

/** Those that a recovery of the event path leaves alone, the daemon excepted. */
const BESIDE_EVENTS = ['index-advisor', 'log-writer', 'metric-writer', 'retention', 'rollup-advisor'];

/** Names of all actors of a daemon that nobody asks anything, in order. */
function actorsWith({ cpus, shards }: { readonly cpus: number; readonly shards: number }): string[] {
  const numbered = (name: string, count: number) => Array.from({ length: count }, (_, n) => `${name}-${n}`);
  const path = [...numbered('reader', cpus), ...numbered('writer', shards), ...numbered('indexes', shards)];
  return ['daemon', ...BESIDE_EVENTS, ...path].sort();
}

function residentMiB({ pid }: EventdRun): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024;
}

test('a front end sees the state of every actor of every thread, and what the event path counts', async (t) => {
  const world = EventdWorld.for(t, { settings: { StorageShards: 3 } });
  await world.start();
  world.emitMany(0, 40);
  world.emitMany(1, 10);
  await world.stored(0);
  await world.stored(1);
  const reader = look(t, world);
  await reader.ready();
  assert.deepEqual(actorsOf(reader).sort(), actorsWith({ cpus: 2, shards: 3 }));
  assert.equal(reader.states().get('daemon'), 'ready');
  const sessions = reader.lines.flatMap(({ type, sessionId }) =>
    type === '@xstate.actor' ? [sessionId] : [],
  );
  assert.equal(new Set(sessions).size, sessions.length, 'session ids are unique in the process');
  const root = reader.lines.find(({ name }) => name === 'daemon')?.sessionId;
  assert.ok(reader.lines.every(({ rootId }) => rootId === undefined || rootId === root));
  const figures = reader.lines.find(({ type }) => type === '@eventd.figures')?.figures ?? {};
  assert.equal(figures['reader-0']?.lastSequence, '40');
  assert.equal(figures['reader-1']?.lastSequence, '10');
  assert.ok(Number(figures['writer-1']?.rows) >= 10);
  assert.equal(figures['writer-1']?.credit, 10_000);
  assert.equal(figures.daemon?.recoveries, 0);

  // Live: an event that is stored shows in its reader and its writer.
  const from = reader.lines.length;
  world.emit(1, 'test.live');
  const writer = reader.lines.find(({ name }) => name === 'writer-1')?.sessionId;
  await reader.sees(
    ({ sessionId, snapshot }) => sessionId === writer && snapshot?.value === 'committing',
    from,
  );
  await world.query('EVENTS TAKE 1');
  const session = (await reader.sees(({ name }) => name === 'querySession:0', from)).sessionId;
  await reader.sees(({ sessionId, snapshot }) => sessionId === session && snapshot?.status === 'done', from);
});

test('[FAIL-15] after the event path was started again in the process, its old actors are over and the new ones are shown', {
  timeout: 60_000,
}, async (t) => {
  const world = EventdWorld.for(t);
  const run = await world.start();
  world.emitMany(0, 10);
  await world.stored(0);
  const before = look(t, world);
  await before.ready();
  const sessionsOf = (name: string) => before.sessionsOf(name);
  // A shard that is taken away under its writer breaks the path.
  rmSync(join(world.events, 'shard-0000.db'));
  await eventually('the event path works again', () => {
    world.emit(0, 'test.again');
    return run.log().some(({ msg }) => /event path works again/.test(String(msg)));
  });
  for (const name of ['writer-0', 'writer-1', 'reader-0', 'reader-1']) {
    await eventually(`a new ${name}`, () => sessionsOf(name).length === 2);
    const [old, young] = sessionsOf(name);
    assert.notEqual(old, young);
    const isOver = ({ sessionId, snapshot }: (typeof before.lines)[number]) =>
      sessionId === old && ['done', 'stopped'].includes(String(snapshot?.status));
    const over = await before.sees(isOver);
    assert.ok(
      before.lines.indexOf(over) < before.lines.findIndex(({ sessionId }) => sessionId === young),
      `${name} is over before its successor appears`,
    );
    assert.equal(
      before.lines.slice(before.lines.indexOf(over) + 1).filter(({ sessionId }) => sessionId === old).length,
      0,
    );
  }
  await eventually('the daemon is ready', () => before.states().get('daemon') === 'ready');
  const late = look(t, world);
  await late.ready();
  assert.deepEqual(actorsOf(late).sort(), actorsWith({ cpus: 2, shards: 2 }));
  // What is none of the event path went on: nobody was told of an end, nor of another beginning.
  for (const name of BESIDE_EVENTS) {
    assert.equal(sessionsOf(name).length, 1, name);
    assert.ok(
      before.lines.every(({ sessionId, snapshot }) => {
        return sessionId !== sessionsOf(name)[0] || (snapshot?.status ?? 'active') === 'active';
      }),
      name,
    );
  }
  await late.sees(({ figures }) => figures?.daemon?.recoveries === 1);
  // The new ones are live.
  const from = late.lines.length;
  world.emit(1, 'test.live');
  const writer = late.lines.find(({ name }) => name === 'writer-1')?.sessionId;
  await late.sees(
    ({ sessionId, snapshot }) => sessionId === writer && snapshot?.value === 'committing',
    from,
  );
  assert.equal((await run.end()).code, 0);
});

test('a writer that hangs holds nobody up, and evctl inspect says that it does not answer', {
  timeout: 60_000,
}, async (t) => {
  const world = EventdWorld.for(t);
  const run = await world.start();
  const release = world.lock(0);
  t.after(release);
  world.emitMany(0, 10);
  const inspect = () => runProgram('evctl', ['inspect', '--debug-socket', world.paths.debugSocket]).done;
  const shown = await eventually('a table with a writer that does not answer', async () => {
    const { stdout, code } = await inspect();
    assert.equal(code, 0);
    return /writer-0 .* no answer$/m.test(stdout.toString()) ? stdout.toString() : null;
  });
  assert.match(shown, /^daemon +ready +up \d+ s +\d+ MiB +0 queries running$/m);
  assert.match(shown, /^├─ reader-0 +running\.waiting, normal +fill \d %/m);
  assert.match(shown, /^└─ writer-1 +idle +0 rows +in 0 commits +credit 10,000 +waiting 0$/m);
  release();
  await world.stored(0);
  const after = await eventually('it answers again', async () => {
    const text = (await inspect()).stdout.toString();
    return text.includes('no answer') ? null : text;
  });
  assert.match(after, /^├─ writer-0 +(idle|degraded)/m);
  assert.equal((await run.end()).code, 0);
});

test('a front end that does not read while eventd works is dropped, and eventd does not grow', {
  timeout: 60_000,
}, async (t) => {
  const world = EventdWorld.for(t, { capacity: 4 << 20 });
  const run = await world.start();
  const slow = look(t, world);
  await slow.ready();
  slow.socket.pause();
  const good = look(t, world);
  await good.ready();
  const before = residentMiB(run);
  await eventually(
    'the slow reader is dropped',
    async () => {
      world.emitMany(0, 200);
      await Promise.all(Array.from({ length: 20 }, () => world.query('EVENTS TAKE 1')));
      return run.log().some(({ msg }) => msg === 'a reader of the debug socket was too slow and is dropped');
    },
    45_000,
  );
  const grown = residentMiB(run) - before;
  assert.ok(grown < 96, `${grown} MiB more`);
  slow.socket.resume();
  await eventually('its socket is closed', () => slow.closed);
  assert.equal(good.closed, false, 'the other one goes on');
  const from = good.lines.length;
  world.emit(0, 'test.live');
  await good.sees(({ type }) => type === '@xstate.snapshot', from);
  assert.equal(world.sequences(0).length > 0, true);
  assert.deepEqual(await run.end(), { code: 0, signal: null });
  assert.equal(world.sequences(0).length, Number(world.sequence(0)), 'no event suffered');
});

test('the debug socket of eventd lets in nobody but its own user and administrators, and leaves nothing behind', async (t) => {
  const world = EventdWorld.for(t);
  const run = await world.start();
  const { debugSocket, dir } = world.paths;
  if (isRoot) {
    for (const path of [dir, world.paths.run]) chmodSync(path, 0o755);
    // As if somebody had opened it to all.
    chmodSync(debugSocket, 0o666);
    const script = `const s=require('net').connect(process.argv[1]);let n=0;s.on('data',d=>n+=d.length);s.on('error',e=>console.log(e.code));s.on('close',()=>console.log(n))`;
    const child = spawn(process.execPath, ['-e', script, debugSocket], {
      uid: 4712,
      gid: 4712,
      cwd: '/',
      env: { PATH: process.env.PATH },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout?.on('data', (part: Buffer) => {
      output += part.toString();
    });
    await once(child, 'close');
    assert.equal(output, '0\n');
  }
  const reader = look(t, world);
  await reader.ready();
  assert.deepEqual(await run.end(), { code: 0, signal: null });
  await eventually('the reader sees the end', () => reader.closed);
  assert.ok(!existsSync(debugSocket));
  assert.ok(reader.lines.some(({ event }) => event?.type === 'stop.requested'));
  for (const name of ['writer-0', 'writer-1', 'reader-0', 'reader-1']) {
    const session = reader.lines.find((line) => line.name === name)?.sessionId;
    assert.ok(
      reader.lines.some(({ sessionId, snapshot }) => sessionId === session && snapshot?.status === 'done'),
      `the end of ${name} is told`,
    );
  }
});
