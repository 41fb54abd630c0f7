/** The debug socket by itself: real sockets and processes, actors made by the test. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { assign, createActor, fromPromise, setup } from 'xstate';
import { InspectionFeed, type InspectionMessage } from '../../actors/inspector/feed.js';
import type { Figures } from '../../actors/inspector/figures.js';
import { plain } from '../../actors/inspector/plain.js';
import { InspectorServer, MAX_READERS } from '../../actors/inspector/server.js';
import { DebugReader } from '../fixtures/debugReader.js';
import { eventually } from '../fixtures/eventd.js';
import { isRoot } from '../fixtures/kmesd.js';

let directory: string;
let path: string;
let server: InspectorServer | null;
const warnings: string[] = [];
const readers: DebugReader[] = [];
const log = {
  info: () => undefined,
  warn: (text: string) => void warnings.push(text),
  error: () => undefined,
};

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'inspector-'));
  path = join(directory, 'debug.sock');
  server = null;
  warnings.length = 0;
});
afterEach(async () => {
  for (const reader of readers.splice(0)) reader.close();
  await server?.close();
  rmSync(directory, { recursive: true, force: true });
});

function open(): DebugReader {
  const reader = new DebugReader(path);
  readers.push(reader);
  return reader;
}

const lamp = setup({
  types: { context: {} as { turns: bigint }, events: {} as { type: 'turn' } | { type: 'smash' } },
  actors: { warm: fromPromise(() => new Promise<void>(() => undefined)) },
}).createMachine({
  id: 'lamp',
  context: { turns: 0n },
  initial: 'off',
  on: { turn: { actions: assign({ turns: ({ context }) => context.turns + 1n }) }, smash: '.broken' },
  states: {
    off: { on: { turn: 'on' } },
    on: { tags: 'bright', invoke: { id: 'heat', src: 'warm' }, on: { turn: 'off' } },
    broken: { type: 'final' },
  },
});

/** A server over one thread's feed, and the lamp it watches. The house is what every actor belongs to. */
async function inspectedLamp(figures: () => Promise<Figures> = () => Promise.resolve({})) {
  let sent = 0;
  const feed = new InspectionFeed('main', (message) => {
    sent++;
    server?.publish(message);
  });
  const house = createActor(setup({}).createMachine({ id: 'house' }), { id: 'house' }).start();
  feed.watch(house);
  const enabled: boolean[] = [];
  server = await InspectorServer.listen({
    path,
    log,
    adminGids: new Set(),
    root: feed.session(house),
    enable: (on) => {
      enabled.push(on);
      feed.enable(on);
    },
    figures,
  });
  const actor = createActor(lamp, { id: 'lamp-1' }).start();
  feed.watch(actor);
  return { actor, feed, house: feed.session(house), enabled, messages: () => sent };
}

test('the debug socket is for its owner alone, and gone after the end', async () => {
  await inspectedLamp();
  assert.equal(statSync(path).mode & 0o777, 0o600);
  await server?.close();
  server = null;
  assert.throws(() => statSync(path), /ENOENT/);
});

test('a front end gets the present state of every actor first, then what happens, live, in the Stately vocabulary', async () => {
  const { actor, house, feed } = await inspectedLamp();
  actor.send({ type: 'turn' });
  const reader = open();
  await reader.ready();
  assert.deepEqual(
    reader.lines.map(({ type, name }) => [type, name]),
    [
      ['@xstate.actor', 'house'],
      ['@xstate.actor', 'lamp-1'],
      ['@xstate.actor', 'heat'],
      ['@eventd.figures', undefined],
      ['@eventd.ready', undefined],
    ],
  );
  const [, announced, child] = reader.lines;
  const session = feed.session(actor);
  assert.ok(announced);
  const { createdAt, definition, ...rest } = announced;
  assert.ok(Math.abs(Number(createdAt) - Date.now()) < 10_000 && typeof createdAt === 'string');
  assert.deepEqual(JSON.parse(String(definition)).states.off, { on: { turn: 'on' } });
  assert.deepEqual(rest, {
    type: '@xstate.actor',
    sessionId: session,
    rootId: house,
    parentId: house,
    id: null,
    _version: '0.7.2',
    name: 'lamp-1',
    snapshot: {
      status: 'active',
      value: 'on',
      context: { turns: '0' },
      tags: ['bright'],
      children: { heat: { xstate$$type: 1, id: 'heat' } },
    },
  });
  assert.deepEqual(
    [child?.parentId, child?.rootId, child?.definition],
    [session, house, '{"id":"heat"}'],
    'an actor that is no machine has its name for a definition',
  );
  actor.send({ type: 'turn' });
  const event = await reader.sees((line) => line.type === '@xstate.event' && line.sessionId === session);
  assert.deepEqual([event.event?.type, event.rootId, event.id], ['turn', house, null]);
  const snapshot = await reader.sees(
    (line) =>
      line.type === '@xstate.snapshot' && line.sessionId === session && line.snapshot?.value === 'off',
  );
  assert.deepEqual([snapshot.event, snapshot.rootId], [{ type: 'turn' }, house]);
});

test('an actor that comes later is announced before anything else of it, and its end is told', async () => {
  const { feed } = await inspectedLamp();
  const reader = open();
  await reader.ready();
  const second = createActor(lamp, { id: 'lamp-2', inspect: feed.discover }).start();
  const session = feed.session(second);
  second.send({ type: 'turn' });
  await reader.sees(({ name }) => name === 'lamp-2');
  second.send({ type: 'smash' });
  await reader.sees((line) => line.sessionId === session && line.snapshot?.status === 'done');
  const own = reader.lines.filter(({ sessionId }) => sessionId === session);
  assert.equal(own[0]?.type, '@xstate.actor');
  const late = open();
  await late.ready();
  assert.ok(!late.lines.some(({ sessionId }) => sessionId === session), 'nobody hears of it any more');
});

test('a second front end starts with the present state too, and the first is not told twice', async () => {
  const { actor, enabled } = await inspectedLamp();
  const first = open();
  await first.ready();
  actor.send({ type: 'turn' });
  await first.sees(({ snapshot }) => snapshot?.value === 'on');
  const second = open();
  await second.ready();
  const seen = second.lines.find(({ name }) => name === 'lamp-1');
  assert.equal(seen?.snapshot?.value, 'on');
  assert.ok(second.lines.some(({ name }) => name === 'heat'));
  assert.equal(first.lines.filter(({ name }) => name === 'lamp-1').length, 1);
  first.close();
  second.close();
  await eventually('the feed is off', () => enabled.at(-1) === false);
  assert.deepEqual(enabled, [true, false], 'the threads were asked once');
});

test('messages of an actor that is not announced yet wait for its announcement, which has its newest state', async () => {
  await inspectedLamp();
  const reader = open();
  await reader.ready();
  const message = (type: InspectionMessage['type'], more: object): InspectionMessage => ({
    type,
    sessionId: 'far#7/x:0',
    rootId: 'far#7/x:0',
    createdAt: '1',
    id: null,
    _version: '0.7.2',
    ...more,
  });
  server?.publish(message('@xstate.event', { event: { type: 'early' } }));
  server?.publish(message('@xstate.actor', { name: 'far', snapshot: { status: 'active', value: 'here' } }));
  // The end of other threads is none of its business, not even where a name begins its own.
  for (const name of ['near', 'fa', 'main']) server?.threadEnded(name);
  server?.publish(message('@xstate.snapshot', { event: {}, snapshot: { status: 'active', value: 'there' } }));
  // Its thread dies without a word.
  server?.threadEnded('far');
  await reader.sees(({ snapshot }) => snapshot?.status === 'stopped');
  assert.deepEqual(
    reader.lines
      .filter(({ sessionId }) => sessionId === 'far#7/x:0')
      .map(({ type, snapshot }) => [type, snapshot?.value, snapshot?.status]),
    [
      ['@xstate.actor', 'here', 'active'],
      ['@xstate.snapshot', 'there', 'active'],
      ['@xstate.snapshot', 'there', 'stopped'],
    ],
  );
  assert.ok(!reader.lines.some(({ snapshot, name }) => name === 'lamp-1' && snapshot?.status !== 'active'));
});

test('nothing is computed while nobody listens', async () => {
  const { actor, messages } = await inspectedLamp();
  for (let i = 0; i < 100; i++) actor.send({ type: 'turn' });
  assert.equal(messages(), 0);
  const reader = open();
  await reader.ready();
  const during = messages();
  reader.close();
  await eventually('silence', () => {
    const before = messages();
    actor.send({ type: 'turn' });
    return messages() === before;
  });
  assert.ok(during > 0);
});

test('figures come with the greeting, then every second with rates; nobody asks for them without a reader', async () => {
  let rows = 1000;
  let asked = 0;
  await inspectedLamp(async () => {
    asked++;
    rows += 500;
    return { 'writer-0': { rows, answers: true } };
  });
  assert.equal(asked, 0);
  const reader = open();
  await reader.ready();
  const figures = () => reader.lines.flatMap((line) => (line.figures === undefined ? [] : [line.figures]));
  assert.deepEqual(figures(), [{ 'writer-0': { rows: 1500, answers: true } }]);
  await eventually('more figures', () => figures().length >= 2);
  const rate = figures()[1]?.['writer-0']?.rowsPerSecond;
  assert.ok(typeof rate === 'number' && rate > 100 && rate <= 600, `${rate} rows per second`);
  reader.close();
  await eventually('no more questions', async () => {
    const before = asked;
    await new Promise((resolve) => setTimeout(resolve, 1100));
    return asked === before;
  });
});

test('a reader that does not read is dropped, the others go on', async () => {
  const { actor } = await inspectedLamp();
  const slow = open();
  const good = open();
  await slow.ready();
  await good.ready();
  slow.socket.pause();
  const deadline = Date.now() + 20_000;
  // The server writes to both; only the one that reads keeps its queue short. It reads in this thread too.
  while (good.bytes < 8 * 1024 * 1024) {
    assert.ok(Date.now() < deadline, 'the reading front end gets everything');
    for (let i = 0; i < 20; i++) actor.send({ type: 'turn' });
    await new Promise((resolve) => setImmediate(resolve));
  }
  slow.socket.resume();
  await eventually('the slow reader dropped', () => slow.closed);
  assert.equal(good.closed, false);
  assert.deepEqual(warnings, ['a reader of the debug socket was too slow and is dropped']);
});

test('the initial burst may be larger than what a slow reader is allowed', async () => {
  const { feed } = await inspectedLamp();
  const large = setup({ types: { context: {} as { text: string[] } } }).createMachine({
    id: 'large',
    context: { text: Array.from({ length: 100 }, () => 'x'.repeat(1000)) },
  });
  for (let i = 0; i < 60; i++) feed.watch(createActor(large, { id: `large-${i}` }).start());
  for (let i = 0; i < 2; i++) {
    const reader = open();
    await reader.ready();
    assert.equal(reader.lines.filter(({ name }) => name?.startsWith('large-')).length, 60);
    assert.ok(reader.bytes > 5 * 1024 * 1024, `${reader.bytes} bytes`);
  }
});

test('readers beyond the eighth are told why they are turned away, and come in when one leaves', async () => {
  await inspectedLamp();
  const inside = Array.from({ length: MAX_READERS }, open);
  for (const reader of inside) await reader.ready();
  const ninth = open();
  await eventually('the ninth turned away', () => ninth.closed);
  assert.deepEqual(ninth.lines, [
    { type: '@eventd.refused', reason: '8 readers are connected, as many as there may be' },
  ]);
  assert.ok(inside.every(({ closed }) => !closed));
  inside[0]?.close();
  await eventually('a place for another', async () => {
    const next = open();
    await eventually('an answer', () => next.closed || next.isReady);
    return next.isReady;
  });
});

test('what a reader sends is thrown away, and a reader that sends much is dropped', async () => {
  const { actor } = await inspectedLamp();
  const chatty = open();
  await chatty.ready();
  chatty.socket.write('{"type":"@xstate.event","event":{"type":"smash"}}\n');
  chatty.socket.write(Buffer.alloc(60_000, 0xff));
  actor.send({ type: 'turn' });
  await chatty.sees(({ snapshot }) => snapshot?.value === 'on');
  assert.equal(actor.getSnapshot().status, 'active', 'read-only');
  const before = process.memoryUsage().rss;
  const flood = () => {
    while (!chatty.socket.destroyed && chatty.socket.write(Buffer.alloc(65_536)));
  };
  chatty.socket.on('drain', flood);
  flood();
  await eventually('the sender dropped', () => chatty.closed);
  assert.match(warnings.join(), /sends data/);
  assert.ok(process.memoryUsage().rss - before < 64 << 20);
  assert.equal(actor.getSnapshot().status, 'active');
});

test('a client that closes its sending side gets the present state, and is let go', async () => {
  const { enabled } = await inspectedLamp();
  const socket: Socket = connect({ path, allowHalfOpen: true });
  socket.end();
  let text = '';
  socket.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  await once(socket, 'end');
  assert.match(text, /"lamp-1".*@eventd\.ready"\}\n$/s);
  await eventually('its place is free', () => enabled.at(-1) === false);
});

/** Connects as somebody else; resolves with how many bytes came before the end. */
async function bytesFor(uid: number, gid: number): Promise<number> {
  const script = `const s=require('net').connect(${JSON.stringify(path)});let n=0;const over=()=>{process.stdout.write(String(n));process.exit()};s.on('data',d=>{n+=d.length;if(String(d).includes('ready'))over()});s.on('error',()=>{});s.on('close',over)`;
  const child = spawn(process.execPath, ['-e', script], {
    uid,
    gid,
    cwd: '/',
    env: { PATH: process.env.PATH },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  let output = '';
  child.stdout?.on('data', (part: Buffer) => {
    output += part.toString();
  });
  await once(child, 'close');
  return Number(output);
}

test('another user is turned away without a word, an administrator is not', async () => {
  await inspectedLamp();
  if (!isRoot) {
    // Without root no other user can be played; what keeps others out then is the mode of the socket.
    assert.equal(statSync(path).mode & 0o077, 0);
    return;
  }
  chmodSync(directory, 0o755);
  assert.equal(await bytesFor(4712, 4712), 0, 'the mode alone keeps others out');
  // Somebody has opened the socket to all: who connects still counts.
  chmodSync(path, 0o666);
  assert.equal(await bytesFor(4712, 4712), 0);
  server?.updateAdminGroups(new Set([4711]));
  assert.ok((await bytesFor(4712, 4711)) > 0, 'a member of the administrators');
  assert.equal(await bytesFor(4712, 4712), 0);
});

test('values are made plain at once: bigint as text, buffers as their size, depth and length bounded', () => {
  const nested: Record<string, unknown> = {};
  let inner = nested;
  for (let i = 0; i < 30; i++) inner = inner.next = {} as Record<string, unknown>;
  assert.match(JSON.stringify(plain(nested)), /…/);
  assert.deepEqual(
    plain({ n: 2n ** 60n, b: new Uint8Array(5), e: new Error('broken'), f: () => 1, m: new Map([[1, 1n]]) }),
    {
      n: '1152921504606846976',
      b: { bytes: 5 },
      e: 'broken',
      f: undefined,
      m: { 1: '1' },
    },
  );
  assert.equal((plain(Array(500).fill(0)) as unknown[]).length, 101);
  const wide = plain(Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`k${i}`, i])));
  assert.equal(Object.keys(wide as object).length, 101);
  assert.equal((plain('x'.repeat(5000)) as string).length, 1001);
});
