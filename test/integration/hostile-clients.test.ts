/**
 * Clients of the query and the debug socket that mean harm: malformed frames, slow ones, far too many,
 * and queries built to be dear. Each is answered or cut within its bound, honest clients and senders get
 * through meanwhile, and nothing of it stays behind (docs/security.md).
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { encodeRequest } from '../../src/wire/messages.js';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords, saidBy } from '../fixtures/eventdRecords.js';
import {
  besiege,
  frameOf,
  HonestSenders,
  type HostileClient,
  leave,
  MSGPACK_BOMBS,
  recovered,
  vitals,
} from '../fixtures/hostile.js';
import { ask } from '../fixtures/rawQueryClient.js';

const LIMIT = { timeout: 60_000 };
const TIMEOUT_MS = 1000;
/** Buffers of connections, frames under way, the heap's breathing space. */
const GROWTH_MIB = 120;
/** An honest query among them: two cores are shared with everything else that is tested. */
const PATIENCE_MS = 5000;

async function within<T>(ms: number, what: string, work: Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await work;
  const took = performance.now() - started;
  assert.ok(took < ms, `${what}: ${Math.round(took)} ms`);
  return result;
}

async function besieged(t: TestContext, settings: Record<string, number> = {}) {
  const world = EventdWorld.for(t, {
    cpus: 1,
    settings: { QueryTimeoutMs: TIMEOUT_MS, HealthMetricIntervalSeconds: 0, ...settings },
  });
  const records = new EventdRecords(world);
  const run = await world.start();
  const { querySocket } = world.paths;
  // The first queries start what later ones need, too: every query thread.
  await Promise.all(Array.from({ length: 20 }, () => ask(querySocket, 'EVENTS TAKE 1')));
  const honest = new HonestSenders(world, records);
  await honest.goesOn();
  const before = vitals(run.pid);
  /** An honest client: one record, in time. */
  const answers = async () => {
    const { error, records: found } = await within(PATIENCE_MS, 'honest', ask(querySocket, 'EVENTS TAKE 1'));
    assert.deepEqual([error, found.length], [null, 1]);
  };
  const end = async () => {
    await recovered(run.pid, before, GROWTH_MIB);
    await answers();
    await honest.goesOn();
    await honest.allStored();
    assert.deepEqual(await run.end(), { code: 0, signal: null });
  };
  return { world, run, honest, answers, end, querySocket };
}

test(
  '[WIRE-3] [WIRE-4] [CFG-94] [QX-63] malformed, cut, oversized and slow requests are answered or cut in time, and cost nobody else anything',
  LIMIT,
  async (t) => {
    const { run, answers, honest, end, querySocket } = await besieged(t);
    const request = (value: unknown) => {
      const body = encode(value);
      return frameOf(body.length, body);
    };
    const whole: readonly (readonly [what: string, bytes: Buffer])[] = [
      ['a frame of nothing', frameOf(0)],
      ['a frame of four gigabytes', frameOf(0xffff_ffff)],
      ['one byte too many', frameOf(65_537, new Uint8Array(65_537))],
      ['a text instead of a map', request('EVENTS')],
      ['a map without a query', request({ queri: 'EVENTS' })],
      ['a number for a query', request({ query: 7 })],
      ['no UTF-8', Buffer.concat([frameOf(9), Buffer.from('\x81\xa5query\xa1\xff', 'latin1')])],
      ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')],
      ...MSGPACK_BOMBS.map(([what, body]) => [what, frameOf(body.length, body)] as const),
    ];
    for (const [what, bytes] of whole) {
      const clients = await besiege(querySocket, 8);
      for (const { socket } of clients) socket.write(bytes);
      await within(PATIENCE_MS, what, Promise.all(clients.map(({ ended }) => ended)));
      for (const client of clients)
        assert.match(client.text, /status.error.error.*(protocol|parse) error: /s, what);
    }
    await answers();

    // Half a request, and one that comes byte by byte for ever; both count as a query that takes too long.
    const halves = await besiege(querySocket, 60);
    const body = encodeRequest('EVENTS TAKE 1');
    for (const { socket } of halves) socket.write(body.subarray(0, 6));
    const trickling = await besiege(querySocket, 60);
    const drip = setInterval(() => {
      for (const { socket } of trickling) if (socket.writable) socket.write(Uint8Array.of(1));
    }, 50);
    for (const { socket } of trickling) socket.write(frameOf(60_000));
    await answers();
    await honest.goesOn();
    const all = [...halves, ...trickling];
    await within(TIMEOUT_MS + PATIENCE_MS, 'slow ones', Promise.all(all.map(({ ended }) => ended)));
    clearInterval(drip);
    await end();
    assert.deepEqual(saidBy(run), [], 'nobody can fill the log that way');
  },
);

test(
  '[QX-61] [QX-63] thousands of connections at both sockets: beyond the bound each is told or turned away at once, and places come back',
  LIMIT,
  async (t) => {
    const { world, run, answers, honest, end, querySocket } = await besieged(t, { MaxConcurrentQueries: 16 });
    const limit = 2 * 16 + 64;
    const before = vitals(run.pid).descriptors;
    for (let wave = 0; wave < 2; wave++) {
      const clients = await besiege(querySocket, 600);
      const turnedAway = (client: HostileClient) => client.closed;
      await eventually('the others are turned away', () => clients.filter(turnedAway).length >= 600 - limit);
      // Held, those that still take their answer, and what the accept loop has in hand.
      assert.ok(vitals(run.pid).descriptors - before < limit + 64 + 64, 'descriptors are bounded');
      const told = clients.filter(({ text }) =>
        text.includes(`limit exceeded: ${limit} connections are open`),
      );
      assert.ok(told.length > 0);
      await honest.goesOn();
      if (wave === 0) {
        // Nobody needs to wait for the siege to end by itself: idle connections are given up.
        await within(TIMEOUT_MS + PATIENCE_MS, 'idle ones', Promise.all(clients.map(({ ended }) => ended)));
      }
      await leave(clients);
      await eventually(
        'a place is free',
        async () => (await ask(querySocket, 'EVENTS TAKE 1')).error === null,
      );
    }
    const readers = await besiege(world.paths.debugSocket, 300);
    await eventually('eight readers stay', () => readers.filter(({ closed }) => !closed).length <= 8);
    for (const { socket } of readers) if (socket.writable) socket.write(Buffer.alloc(128 * 1024));
    await within(PATIENCE_MS, 'chatty readers', Promise.all(readers.map(({ ended }) => ended)));
    await answers();
    await end();
  },
);

const repeated = (text: string, times: number, joint: string) =>
  new Array<string>(times).fill(text).join(joint);
const numbers = (count: number) => Array.from({ length: count }, (_, i) => i).join(',');

/** Each fits into 64 KiB, and each would be dear for a planner or a parser that is not bounded. */
const DEAR: readonly (readonly [what: string, text: string])[] = [
  ['2000 terms of OR', `EVENTS WHERE ${repeated('a.b == 1', 2000, ' OR ')}`],
  ['2000 terms of AND', `EVENTS WHERE ${repeated('a.b != 1', 2000, ' AND ')}`],
  ['5000 terms of OR', `EVENTS WHERE ${repeated('a == 1', 5000, ' OR ')}`],
  ['AND of ORs', `EVENTS WHERE ${repeated('(a == 1 OR b == 2 OR c == 3)', 660, ' AND ')}`],
  ['OR of ANDs', `EVENTS WHERE ${repeated('(cpu_id == 1 AND sequence > 2)', 990, ' OR ')}`],
  ['a list of 12,000 numbers', `EVENTS WHERE sequence IN (${numbers(12_000)})`],
  ['a list of 12,000 numbers in a payload', `EVENTS WHERE a.b.c NOT_IN (${numbers(12_000)})`],
  ['a list of 900 texts of paths', `LOGS WHERE message IN (${repeated(`"${'x'.repeat(60)}"`, 900, ',')})`],
  ['a path of 20,000 parts', `EVENTS WHERE ${repeated('a', 20_000, '.')} == 1`],
  ['a name of 60,000 letters', `EVENTS WHERE ${'a'.repeat(60_000)} == 1`],
  ['30,000 parentheses', `EVENTS WHERE ${'('.repeat(30_000)}a == 1${')'.repeat(30_000)}`],
  ['15,000 NOTs', `EVENTS WHERE ${'NOT '.repeat(15_000)}a == 1`],
  ['a text of 64,000 stars', `LOGS WHERE message LIKE "${'*a'.repeat(30_000)}"`],
  ['a text that never ends', `LOGS WHERE message == "${'a'.repeat(65_000)}`],
  ['10,000 fields', `EVENTS SELECT ${repeated('a', 10_000, ',')}`],
  ['99 sort keys', `EVENTS SORT ${Array.from({ length: 99 }, (_, i) => `f${i}`).join(', ')} TAKE 1`],
  ['a number of 60,000 digits', `EVENTS WHERE a == ${'9'.repeat(60_000)}`],
  ['a count without end', `EVENTS TAKE ${'9'.repeat(60_000)}`],
  ['blanks', `EVENTS${' '.repeat(65_000)}`],
  ['2000 cross-type terms', `EVENTS WHERE ${repeated('LOG svc COUNT > 0', 1000, ' OR ')}`],
];

test(
  '[WIRE-20] [QX-62] [QX-65] queries built to be dear end by an answer, an error or their deadline, and honest ones are answered beside them',
  LIMIT,
  async (t) => {
    const { answers, end, querySocket, honest } = await besieged(t);
    let worst = 0;
    for (const [what, text] of DEAR) {
      const query = ask(querySocket, text);
      const started = performance.now();
      await answers();
      worst = Math.max(worst, performance.now() - started);
      const { error, ended } = await within(TIMEOUT_MS + PATIENCE_MS, what, query);
      assert.ok(
        ended || /^(parse|validation|limit exceeded|unsupported|timeout)/.test(error ?? ''),
        `${what}: ${error}`,
      );
    }
    t.diagnostic(`slowest honest query beside one of them: ${Math.round(worst)} ms`);
    // All of them at once, twice.
    const flood = Array.from({ length: 40 }, (_, i) => ask(querySocket, DEAR[i % DEAR.length]?.[1] ?? ''));
    await honest.goesOn();
    await within(4 * PATIENCE_MS, 'all at once', Promise.all(flood));
    await end();
  },
);
