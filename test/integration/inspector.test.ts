import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { assign, createActor, setup } from 'xstate';
import { InspectionFeed } from '../../actors/inspector/feed.js';
import { plain } from '../../actors/inspector/plain.js';
import { InspectorServer } from '../../actors/inspector/server.js';
import { until } from '../fixtures/kmesd.js';

const log = { info: () => undefined, warn: () => undefined, error: () => undefined };

let directory: string;
let path: string;
let server: InspectorServer | null;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'inspector-'));
  path = join(directory, 'debug.sock');
  server = null;
});
afterEach(async () => {
  await server?.close();
  rmSync(directory, { recursive: true, force: true });
});

const lamp = setup({
  types: { context: {} as { turns: bigint }, events: {} as { type: 'turn' } },
}).createMachine({
  id: 'lamp',
  context: { turns: 0n },
  initial: 'off',
  on: { turn: { actions: assign({ turns: ({ context }) => context.turns + 1n }) } },
  states: { off: { on: { turn: 'on' } }, on: { on: { turn: 'off' } } },
});

interface Line {
  type: string;
  name?: string;
  sessionId?: string;
  snapshot?: { value: unknown; context: { turns: string } };
  event?: { type: string };
  [field: string]: unknown;
}

/** A front end: everything it has read so far. */
class Reader {
  readonly lines: Line[] = [];
  readonly socket: Socket;
  #rest = '';

  constructor(at: string) {
    this.socket = connect(at);
    this.socket.on('error', () => undefined);
    this.socket.setEncoding('utf8').on('data', (text: string) => {
      const parts = (this.#rest + text).split('\n');
      this.#rest = parts.pop() ?? '';
      for (const part of parts) this.lines.push(JSON.parse(part) as Line);
    });
  }

  async sees(wanted: (line: Line) => boolean): Promise<Line> {
    await until(() => this.lines.some(wanted));
    const line = this.lines.find(wanted);
    assert.ok(line);
    return line;
  }
}

/** A server over one thread's feed, and the lamp it watches. */
async function inspectedLamp() {
  let publish: (message: Parameters<InspectorServer['publish']>[0]) => void = () => undefined;
  let sent = 0;
  const feed = new InspectionFeed('main', (message) => {
    sent++;
    publish(message);
  });
  server = await InspectorServer.listen({ path, log, adminGids: new Set(), enable: (on) => feed.enable(on) });
  publish = (message) => server?.publish(message);
  const actor = createActor(lamp, { id: 'lamp-1' }).start();
  feed.watch(actor);
  return { actor, messages: () => sent };
}

test('the debug socket is for its owner alone, and gone after the end', async () => {
  await inspectedLamp();
  assert.equal(statSync(path).mode & 0o777, 0o600);
  await server?.close();
  server = null;
  assert.throws(() => statSync(path), /ENOENT/);
});

test('a front end gets the present state of every actor first, then what happens, live', async () => {
  const { actor } = await inspectedLamp();
  actor.send({ type: 'turn' });
  const reader = new Reader(path);
  await reader.sees(({ type }) => type === '@eventd.ready');
  assert.deepEqual(
    reader.lines.map(({ type, name }) => [type, name]),
    [
      ['@xstate.actor', 'lamp-1'],
      ['@eventd.ready', undefined],
    ],
  );
  const [first] = reader.lines;
  assert.deepEqual(first?.snapshot?.value, 'on');
  assert.deepEqual(first?.snapshot?.context, { turns: '0' }, 'bigint as text');
  assert.match(first?.sessionId ?? '', /^main\//);
  actor.send({ type: 'turn' });
  const event = await reader.sees(({ type }) => type === '@xstate.event');
  assert.equal(event.event?.type, 'turn');
  const snapshot = await reader.sees(({ type }) => type === '@xstate.snapshot');
  assert.equal(snapshot.snapshot?.value, 'off');
  reader.socket.destroy();
});

test('nothing is computed while nobody listens', async () => {
  const { actor, messages } = await inspectedLamp();
  for (let i = 0; i < 100; i++) actor.send({ type: 'turn' });
  assert.equal(messages(), 0);
  const reader = new Reader(path);
  await reader.sees(({ type }) => type === '@eventd.ready');
  const during = messages();
  reader.socket.destroy();
  await once(reader.socket, 'close');
  await until(() => {
    const before = messages();
    actor.send({ type: 'turn' });
    return messages() === before;
  });
  assert.ok(during > 0);
});

test('a reader that does not read is dropped, the others go on', async () => {
  const { actor } = await inspectedLamp();
  const slow = new Reader(path);
  const good = new Reader(path);
  await slow.sees(({ type }) => type === '@eventd.ready');
  await good.sees(({ type }) => type === '@eventd.ready');
  slow.socket.pause();
  let closed = false;
  slow.socket.once('close', () => {
    closed = true;
  });
  const deadline = Date.now() + 20_000;
  // The server writes to both; only the one that reads keeps its queue short.
  while (good.lines.filter(({ type }) => type === '@xstate.snapshot').length < 12_000) {
    assert.ok(Date.now() < deadline, 'the reading front end gets everything');
    for (let i = 0; i < 200; i++) actor.send({ type: 'turn' });
    await new Promise((resolve) => setImmediate(resolve));
  }
  slow.socket.resume();
  await until(() => closed);
  assert.equal(good.socket.destroyed, false);
  good.socket.destroy();
});

test('another user is turned away without a word', async () => {
  await inspectedLamp();
  if (process.getuid?.() !== 0) {
    // Without root no other user can be played; what keeps others out then is the mode of the socket.
    assert.equal(statSync(path).mode & 0o077, 0);
    return;
  }
  const { chmodSync } = await import('node:fs');
  chmodSync(directory, 0o755);
  chmodSync(path, 0o666);
  const script = `const s=require('net').connect(${JSON.stringify(path)});let n=0;s.on('data',d=>n+=d.length);s.on('error',()=>{});s.on('close',()=>process.exit(n===0?42:1))`;
  const child = spawn(process.execPath, ['-e', script], { uid: 65534, gid: 65534, stdio: 'ignore' });
  const [code] = await once(child, 'exit');
  assert.equal(code, 42);
});

test('values are made plain at once: bigint as text, buffers as their size, depth and length bounded', () => {
  const nested: Record<string, unknown> = {};
  let inner = nested;
  for (let i = 0; i < 30; i++) inner = inner.next = {} as Record<string, unknown>;
  assert.match(JSON.stringify(plain(nested)), /…/);
  assert.deepEqual(
    plain({ n: 2n ** 60n, b: new Uint8Array(5), e: new Error('broken'), f: () => 1, m: new Map([['k', 1]]) }),
    {
      n: '1152921504606846976',
      b: { bytes: 5 },
      e: 'broken',
      f: undefined,
      m: { k: 1 },
    },
  );
  assert.equal((plain(Array(500).fill(0)) as unknown[]).length, 101);
});
