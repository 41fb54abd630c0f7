import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { DEFAULT_BOUNDS, EmitServer, type EmitServerBounds } from '../../src/kmesd/emitServer.js';
import { NO_IDENTITY } from '../../src/kmesd/identity.js';
import { success } from '../../src/kmesd/protocol.js';
import type { Ring } from '../../src/kmesd/rings.js';
import { native } from '../../src/native/addon.js';
import { answersIn, frame, scratchDirectory, until } from '../fixtures/kmesd.js';

const ring: Ring = {
  cpu: 0,
  path: '',
  capacity: 65_536,
  write: () => 0,
  status: () => assert.fail('not needed'),
};
const quiet = { info: () => undefined, warn: () => undefined, error: (text: string) => assert.fail(text) };

let directory: { path: string; remove(): void };
let server: EmitServer;
let mayEmit: boolean;
let sockets: Socket[];

beforeEach(() => {
  directory = scratchDirectory();
  mayEmit = true;
  sockets = [];
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await server.close();
  directory.remove();
});

/** A server over the real socket whose every answer is `answerBytes` long or so. */
async function serve(bounds: Partial<EmitServerBounds>, answerBytes = 0): Promise<void> {
  const response = success(answerBytes > 0 ? { filler: new Uint8Array(answerBytes) } : {});
  server = await EmitServer.listen({
    path: join(directory.path, 'emit.sock'),
    native,
    admission: {
      caller: () => ({ uid: 0, mayEmit, rateExempt: true, process: 'p', identity: NO_IDENTITY }),
    },
    handler: { answer: () => ({ response, close: false }) },
    rings: { assign: () => ring },
    report: quiet,
    bounds: { ...DEFAULT_BOUNDS, ...bounds },
  });
}

interface Client {
  readonly socket: Socket;
  readonly received: () => Buffer;
  readonly closed: Promise<void>;
}

async function client(): Promise<Client> {
  const socket = connect(join(directory.path, 'emit.sock'));
  sockets.push(socket);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  await once(socket, 'connect');
  return { socket, received: () => Buffer.concat(chunks), closed };
}

const REQUEST = frame({ op: 'status' });

/** Resolves once the client has this many answers. */
async function answers(of: Client, count: number): Promise<void> {
  await until(() => answersIn(of.received()).length >= count, `${count} answers`);
}

test('a frame that is not completed in time ends the connection, trickling bytes or not', async () => {
  await serve({ patienceMs: 150 });
  const slow = await client();
  // A frame this long is never completed by the trickle.
  slow.socket.write(Uint8Array.of(0xff, 0xff, 0, 0));
  const trickle = setInterval(() => slow.socket.write(Uint8Array.of(0)), 20);
  await slow.closed;
  clearInterval(trickle);
  assert.equal(slow.received().length, 0);
});

test('a connection without a pending frame may rest as long as it likes', async () => {
  await serve({ patienceMs: 30 });
  const calm = await client();
  calm.socket.write(REQUEST);
  await answers(calm, 1);
  // Another connection outlives several patiences of the first one's silence.
  for (let round = 0; round < 3; round += 1) {
    const hasty = await client();
    hasty.socket.write(REQUEST.subarray(0, 2));
    await hasty.closed;
  }
  calm.socket.write(REQUEST);
  await answers(calm, 2);
});

test('who may not emit has to leave in time, and cannot crowd out those who may', async () => {
  await serve({ patienceMs: 150, maxRefusedConnections: 2 });
  mayEmit = false;
  const strangers = [await client(), await client()];
  await until(() => server.connections === 2, 'two strangers');
  const third = await client();
  await third.closed;
  assert.deepEqual(
    answersIn(third.received()).map(({ code }) => code),
    ['EAGAIN'],
  );
  mayEmit = true;
  const welcome = await client();
  welcome.socket.write(REQUEST);
  await answers(welcome, 1);
  await Promise.all(strangers.map(({ closed }) => closed));
  await until(() => server.connections === 1, 'the strangers are gone');
});

test('connections beyond the limit are told EAGAIN and closed', async () => {
  await serve({ maxConnections: 2 });
  const held = [await client(), await client()];
  await until(() => server.connections === 2, 'two connections');
  const extra = await client();
  await extra.closed;
  assert.deepEqual(
    answersIn(extra.received()).map(({ code }) => code),
    ['EAGAIN'],
  );
  held[0]?.socket.destroy();
  await until(() => server.connections === 1, 'room again');
  const next = await client();
  next.socket.write(REQUEST);
  await answers(next, 1);
});

test('[KMES-65] [KMES-81] bytes of unfinished frames are bounded over all connections: ENOMEM', async () => {
  await serve({ maxStagedBytes: 300_000 });
  const announce = Buffer.alloc(4);
  announce.writeUInt32LE(1_000_000);
  const first = await client();
  first.socket.write(Buffer.concat([announce, Buffer.alloc(250_000)]));
  const second = await client();
  second.socket.write(Buffer.concat([announce, Buffer.alloc(250_000)]));
  await Promise.race([first.closed, second.closed]);
  const codes = [first, second].flatMap(({ received }) => answersIn(received()).map(({ code }) => code));
  assert.deepEqual(codes, ['ENOMEM']);
  const small = await client();
  small.socket.write(REQUEST);
  await answers(small, 1);
});

test('a client that never reads its answers is dropped, others are served meanwhile', async () => {
  await serve({ patienceMs: 300 }, 60_000);
  const deaf = await client();
  deaf.socket.pause();
  const flood = Buffer.concat(new Array<Buffer>(2000).fill(REQUEST));
  deaf.socket.write(flood);
  const other = await client();
  other.socket.write(REQUEST);
  await answers(other, 1);
  await until(() => server.connections === 1, 'the deaf client is gone');
});

test('a client that reads late gets every answer, in spite of the pauses', async () => {
  await serve({}, 20_000);
  const late = await client();
  late.socket.pause();
  late.socket.write(Buffer.concat(new Array<Buffer>(200).fill(REQUEST)));
  const other = await client();
  other.socket.write(REQUEST);
  await answers(other, 1);
  late.socket.resume();
  await answers(late, 200);
});
