/** A session among stand-ins for everything around it, over a real socket. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { interpret } from '../../actors/query/interpret.js';
import { startQuerySession } from '../../actors/query/session.js';
import type { QuerySessionHost } from '../../actors/query/sessionHost.js';
import type { WatchListener } from '../../actors/query/tail/tailThread.js';
import type { QueryRun, SurveyListener } from '../../actors/query/workerPool.js';
import { listenOnUnixSocket } from '../../actors/unixSocket.js';
import { AccessSession } from '../../src/access/accessSession.js';
import type { Survey } from '../../src/query/survey.js';
import { encodeResult } from '../../src/wire/messages.js';
import { CountingCaller, FakeSecurity, patternsOf, userToken } from '../fixtures/access.js';
import { LIMITS, makeStore } from '../fixtures/queryService.js';
import { eventually } from '../fixtures/rawQueryClient.js';
import { StreamClient } from '../fixtures/streams.js';

const QUERY = 'LOGS SINCE 1h ago WHERE EVENT kacs.* EXISTS STREAM';
const LIMIT_NS = BigInt(LIMITS.queryTimeoutMs) * 1_000_000n;

interface Asked {
  readonly survey: Survey;
  readonly deadline: bigint;
  readonly listener: SurveyListener;
}

const idle: QueryRun = { credit: () => {}, cancel: () => {}, released: Promise.resolve() };

/** A restricted caller's stream, watching, whose surveys are answered by the test once that is so. */
async function watching(t: TestContext) {
  const security = new FakeSecurity();
  for (const name of ['Events\\*', 'Logs\\*']) security.set(name, 'O:SYG:SYD:(A;;0x1;;;SY)');
  for (const name of ['Events\\kacs', 'Logs\\app']) security.set(name, 'O:SYG:SYD:(A;;0x1;;;AU)');
  const patterns = await patternsOf(security);
  const { socketPath, log } = makeStore(t);
  const note = (details: object, text: string) => {
    log.push({ level: 'error', details: { ...details }, text });
  };
  const asked: Asked[] = [];
  const resumed: unknown[] = [];
  const clock = { now: 0n };
  let stream: WatchListener | null = null;
  let isLive = false;
  const host: QuerySessionHost = {
    logger: { info: note, warn: note, error: note },
    onInspect: null,
    identify: () => new CountingCaller(userToken()),
    openAccess: (caller, over) => AccessSession.open(caller, patterns, over),
    onSecurityChange: (listener) => patterns.onChange(listener),
    parse: (text) => interpret(text, LIMITS),
    used: () => {},
    index: async () => {},
    takeSlot: () => ({ release: () => {} }),
    takeStream: () => ({ release: () => {} }),
    run: (_job, _deadline, listener) => {
      queueMicrotask(() => {
        listener.onSeam?.({ listed: 0n, ticket: 0n, databases: [] });
        listener.onFrame(new Uint8Array(encodeResult([])), 0);
        listener.onFinished();
      });
      return idle;
    },
    survey: (survey, deadline, listener) => {
      if (isLive) asked.push({ survey, deadline, listener });
      else queueMicrotask(() => listener.onSurveyed([]));
      return idle;
    },
    watch: (_program, listener) => {
      stream = listener;
      queueMicrotask(listener.onOpened);
      return {
        attach: () =>
          queueMicrotask(() => {
            listener.onLive();
            isLive = true;
          }),
        credit: () => {},
        hold: () => {},
        resume: (_next, rows) => resumed.push(rows),
        close: () => {},
      };
    },
    widen: () => {},
    monotonicNs: () => clock.now,
  };
  const server = await listenOnUnixSocket({ path: socketPath, mode: 0o600, backlog: 1 }, (socket) => {
    t.after(() => socket.destroy());
    startQuerySession('session', socket, LIMITS, host);
  });
  t.after(() => server.close());
  const client = await StreamClient.begun(t, socketPath, QUERY);
  await eventually('the watch phase', () => isLive);
  /** The tail thread came to a log of an origin nobody decided about. */
  const meet = async (origin: string): Promise<Asked> => {
    const before = asked.length;
    stream?.onHeld([[origin, []]]);
    await eventually('a survey of the other store', () => asked.length > before);
    const last = asked.at(-1);
    assert.ok(last);
    return last;
  };
  return { client, clock, meet, resumed, log };
}

test('[STR-4] [STR-13] [ACL-49] each question of a stream that runs has QueryTimeoutMs, however old the stream is', async (t) => {
  const { client, clock, meet, resumed, log } = await watching(t);
  for (const [age, origin] of [2n, 1000n].map((times) => [times * LIMIT_NS, `app.${times}`] as const)) {
    clock.now = age;
    const { survey, deadline, listener } = await meet(origin);
    assert.equal(survey.store, 'events');
    assert.equal(deadline, age + LIMIT_NS);
    const before = resumed.length;
    listener.onSurveyed([['kacs.denied', []]]);
    await eventually('the stream goes on', () => resumed.length > before);
  }
  assert.equal(client.closed, false);
  assert.deepEqual(log, []);
});

test('[STR-13] [QX-62] [WIRE-20] a stream whose question takes longer ends with an error', async (t) => {
  const { client, meet, resumed, log } = await watching(t);
  const { listener } = await meet('app.new');
  listener.onFailed({ kind: 'deadline' });
  await client.ended();
  assert.equal(
    client.error,
    'timeout: what the stream may show was not found out within QueryTimeoutMs (30000 ms)',
  );
  assert.deepEqual([resumed, log], [[], []]);
});
