import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  createActor,
  fromPromise,
  type getInitialSnapshot,
  initialTransition,
  SimulatedClock,
  transition,
} from 'xstate';
import { type QuerySessionEvent, querySessionMachine } from '../../machines/querySession.js';

const input = { queryTimeoutMs: 1000, closeGraceMs: 50 };
type Snapshot = ReturnType<typeof getInitialSnapshot<typeof querySessionMachine>>;

/** Events a machine receives from its own invocations. */
const identified = { type: 'xstate.done.actor.0.querySession.identifying', output: undefined };
const noToken = {
  type: 'xstate.error.actor.0.querySession.identifying',
  error: new Error('access denied: no token'),
};
const parsed = { type: 'xstate.done.actor.0.querySession.parsing', output: undefined };
const badText = {
  type: 'xstate.error.actor.0.querySession.parsing',
  error: new Error('parse error: character 1: x'),
};
const planned = { type: 'xstate.done.actor.0.querySession.planning', output: 'read' };
const plannedNothing = { type: 'xstate.done.actor.0.querySession.planning', output: 'nothing' };
const plannedStream = { type: 'xstate.done.actor.0.querySession.planning', output: 'stream' };
const noSlot = {
  type: 'xstate.error.actor.0.querySession.planning',
  error: new Error('limit exceeded: MaxConcurrentQueries'),
};
const graceOver = { type: 'xstate.after.closeGrace.querySession.rejected' };
const timeoutGraceOver = { type: 'xstate.after.closeGrace.querySession.timedOut' };
const received: QuerySessionEvent = { type: 'request.received' };
const malformed: QuerySessionEvent = { type: 'request.malformed', text: 'protocol error: x' };
const frame: QuerySessionEvent = { type: 'frame.arrived', records: 3 };
const stop: QuerySessionEvent = { type: 'service.stop', text: 'shutting down: x' };
const failed: QuerySessionEvent = { type: 'execution.failed', text: 'storage error: x' };
const left: QuerySessionEvent = { type: 'client.left' };
const deadline: QuerySessionEvent = { type: 'deadline.passed' };
const finished: QuerySessionEvent = { type: 'execution.finished' };
const live: QuerySessionEvent = { type: 'stream.live' };
const batch: QuerySessionEvent = { type: 'batch.arrived', records: 2, blocked: false };
const blockedBatch: QuerySessionEvent = { type: 'batch.arrived', records: 2, blocked: true };
const flushed: QuerySessionEvent = { type: 'output.flushed' };

type Step = { readonly type: string };
const toReceiving: readonly Step[] = [identified];
const toParsing: readonly Step[] = [...toReceiving, received];
const toPlanning = [...toParsing, parsed];
const toExecuting = [...toPlanning, planned];
const toDelivering = [...toExecuting, frame];
const toCatchingUp = [...toPlanning, plannedStream, frame, finished];
const toWatching = [...toCatchingUp, live];

/** Runs the events through the pure machine: final state and the named actions of the last step. */
function walk(events: readonly Step[]): { snapshot: Snapshot; actions: string[] } {
  let [snapshot, actions] = initialTransition(querySessionMachine, input);
  for (const event of events) {
    [snapshot, actions] = transition(querySessionMachine, snapshot, event as QuerySessionEvent);
  }
  return { snapshot, actions: actions.map(({ type }) => type).filter((type) => !type.startsWith('xstate.')) };
}

const table: readonly {
  readonly title: string;
  readonly events: readonly Step[];
  readonly state: string;
  readonly actions: readonly string[];
  readonly error?: RegExp;
  readonly outcome?: string;
}[] = [
  { title: '[QX-2] a connection is identified first', events: [], state: 'identifying', actions: [] },
  {
    title: '[QX-2] then its request is read',
    events: toReceiving,
    state: 'receiving',
    actions: ['readRequest'],
  },
  {
    title: '[QX-8] [FAIL-28] without a token the query is denied',
    events: [noToken],
    state: 'rejected',
    actions: ['writeError'],
    error: /^access denied: no token$/,
    outcome: 'refused',
  },
  { title: '[QX-2] a complete request is parsed', events: toParsing, state: 'parsing', actions: [] },
  {
    title: '[WIRE-4] a malformed request is answered',
    events: [...toReceiving, malformed],
    state: 'rejected',
    actions: ['writeError'],
    error: /^protocol error: x$/,
    outcome: 'refused',
  },
  {
    title: '[QX-7] a parse error is answered, nothing is executed',
    events: [...toParsing, badText],
    state: 'rejected',
    actions: ['writeError'],
    error: /^parse error:/,
    outcome: 'refused',
  },
  { title: '[QX-2] slots come after the parse', events: toPlanning, state: 'planning', actions: [] },
  {
    title: '[QX-61] without a slot the query is refused',
    events: [...toPlanning, noSlot],
    state: 'rejected',
    actions: ['writeError'],
    error: /MaxConcurrentQueries/,
    outcome: 'refused',
  },
  {
    title: '[QX-2] a planned read is executed',
    events: toExecuting,
    state: 'executing',
    actions: ['startExecution'],
  },
  {
    title: '[WIRE-7] [ACL-31] a caller who sees nothing gets one empty result and the end',
    events: [...toPlanning, plannedNothing],
    state: 'finishing',
    actions: ['writeNothing', 'writeEnd'],
  },
  {
    title: '[QX-26] the first frame is written',
    events: toDelivering,
    state: 'delivering',
    actions: ['writeFrame'],
  },
  {
    title: '[QX-26] so are the others',
    events: [...toDelivering, frame],
    state: 'delivering',
    actions: ['writeFrame'],
  },
  {
    title: '[QX-63] a frame the client took is a credit for another',
    events: [...toDelivering, { type: 'frame.flushed' }],
    state: 'delivering',
    actions: ['grantCredit'],
  },
  {
    title: '[WIRE-9] the end message follows the last frame',
    events: [...toDelivering, { type: 'execution.finished' }],
    state: 'finishing',
    actions: ['writeEnd'],
  },
  {
    title: '[WIRE-9] and then the connection is closed',
    events: [...toDelivering, { type: 'execution.finished' }, flushed],
    state: 'closed',
    actions: ['release'],
    outcome: 'delivered',
  },
  {
    title: '[QX-21] a read error before any result is answered',
    events: [...toExecuting, failed],
    state: 'rejected',
    actions: ['writeError'],
    error: /^storage error:/,
    outcome: 'failed',
  },
  {
    title: '[WIRE-7] a read error in the middle replaces the end message',
    events: [...toDelivering, failed],
    state: 'rejected',
    actions: ['writeError'],
    error: /^storage error:/,
    outcome: 'failed',
  },
  {
    title: '[WIRE-9] the connection is closed after an error',
    events: [...toDelivering, failed, flushed],
    state: 'closed',
    actions: ['release'],
    outcome: 'failed',
  },
  {
    title: '[WIRE-9] a client that does not take the error is cut off',
    events: [...toDelivering, failed, graceOver],
    state: 'closed',
    actions: ['release'],
  },
  {
    title: '[QX-63] a request that does not come in time ends the connection',
    events: [...toReceiving, deadline],
    state: 'timedOut',
    actions: ['cancelExecution', 'writeError'],
    error: /^timeout: the request was not complete.*1000 ms/,
    outcome: 'timedOut',
  },
  ...[toParsing, toPlanning, toExecuting, toDelivering].map((events, index) => ({
    title: `[QX-62] [QX-68] [FAIL-30] the deadline cancels the query (${index})`,
    events: [...events, deadline],
    state: 'timedOut',
    actions: ['cancelExecution', 'writeError'],
    error: /^timeout: the query exceeded QueryTimeoutMs \(1000 ms\)$/,
    outcome: 'timedOut',
  })),
  {
    title: '[QX-63] a timed-out client that does not take the error is cut off',
    events: [...toDelivering, deadline, timeoutGraceOver],
    state: 'closed',
    actions: ['release'],
    outcome: 'timedOut',
  },
  ...[[], toReceiving, toParsing, toPlanning, toExecuting, toDelivering].map((events, index) => ({
    title: `[QX-64] a client that leaves cancels the query (${index})`,
    events: [...events, left],
    state: 'closed',
    actions: ['cancelExecution', 'release'],
    outcome: 'left',
  })),
  ...[[], toReceiving, toParsing, toPlanning, toExecuting, toDelivering].map((events, index) => ({
    title: `[STR-14] [LIFE-201] shutdown ends the session with an error (${index})`,
    events: [...events, stop],
    state: 'rejected',
    actions: ['cancelExecution', 'writeError'],
    error: /^shutting down:/,
    outcome: 'failed',
  })),
  {
    title: '[STR-14] shutdown does not answer a second time',
    events: [...toExecuting, failed, stop],
    state: 'rejected',
    actions: [],
    error: /^storage error:/,
  },
  {
    title: '[QX-63] a client too slow for the end message is cut off, without a message behind it',
    events: [...toDelivering, { type: 'execution.finished' }, deadline],
    state: 'closed',
    actions: ['release'],
    outcome: 'timedOut',
  },
  {
    title: '[STR-14] shutdown lets the end message out',
    events: [...toDelivering, { type: 'execution.finished' }, stop],
    state: 'finishing',
    actions: [],
  },
  {
    title: '[STR-14] [LIFE-210] but not for ever',
    events: [...toDelivering, { type: 'execution.finished' }, stop, deadline],
    state: 'closed',
    actions: ['release'],
  },
  {
    title: '[STR-2] [STR-3] a stream goes on where other queries end',
    events: toCatchingUp,
    state: 'catchingUp',
    actions: ['startWatching'],
  },
  {
    title: '[STR-4] catching up is written frame by frame',
    events: [...toCatchingUp, frame],
    state: 'catchingUp',
    actions: ['writeFrame'],
  },
  {
    title: '[STR-4] under the flow control of the initial set',
    events: [...toCatchingUp, frame, { type: 'frame.flushed' }],
    state: 'catchingUp',
    actions: ['grantCredit'],
  },
  {
    title: '[STR-4] [QX-62] and under its time limit',
    events: [...toCatchingUp, deadline],
    state: 'timedOut',
    actions: ['cancelExecution', 'writeError'],
    error: /^timeout:/,
    outcome: 'timedOut',
  },
  {
    title: '[STR-2] a stream that has caught up watches',
    events: toWatching,
    state: 'watching',
    actions: [],
  },
  {
    title: '[STR-4] watching has no time limit',
    events: [...toWatching, deadline],
    state: 'watching',
    actions: [],
  },
  {
    title: '[STR-12] a committed batch is written as a unit',
    events: [...toWatching, batch],
    state: 'watching',
    actions: ['writeBatch'],
  },
  {
    title: '[STR-11] [STR-15] a unit behind one that is not sent ends the stream',
    events: [...toWatching, batch, blockedBatch],
    state: 'rejected',
    actions: ['cancelExecution', 'writeError'],
    error: /^backpressure: /,
    outcome: 'failed',
  },
  {
    title: '[STR-16] who does not take that error either is cut off',
    events: [...toWatching, batch, blockedBatch, graceOver],
    state: 'closed',
    actions: ['release'],
    outcome: 'failed',
  },
  {
    title: '[STR-11] a unit on its way when the stream ended is not written',
    events: [...toWatching, blockedBatch, batch],
    state: 'rejected',
    actions: [],
  },
  ...[toCatchingUp, toWatching].map((events, index) => ({
    title: `[STR-2] a failure while reading new rows is answered (${index})`,
    events: [...events, failed],
    state: 'rejected',
    actions: ['writeError'],
    error: /^storage error:/,
    outcome: 'failed',
  })),
  ...[toCatchingUp, toWatching].map((events, index) => ({
    title: `[STR-2] [QX-64] a stream ends when its client leaves (${index})`,
    events: [...events, left],
    state: 'closed',
    actions: ['cancelExecution', 'release'],
    outcome: 'left',
  })),
  ...[toCatchingUp, toWatching].map((events, index) => ({
    title: `[STR-14] shutdown ends a stream with an error (${index})`,
    events: [...events, stop],
    state: 'rejected',
    actions: ['cancelExecution', 'writeError'],
    error: /^shutting down:/,
    outcome: 'failed',
  })),
  {
    title: '[QX-62] a deadline both threads noticed is answered once',
    events: [...toDelivering, deadline, deadline],
    state: 'timedOut',
    actions: [],
  },
  {
    title: '[QX-63] frames still on their way when time is over are not written',
    events: [...toDelivering, deadline, frame],
    state: 'timedOut',
    actions: [],
  },
];

for (const { title, events, state, actions, error, outcome } of table) {
  test(title, () => {
    const end = walk(events);
    assert.equal(end.snapshot.value, state);
    assert.deepEqual(end.actions, actions);
    if (error !== undefined) assert.match(end.snapshot.context.error ?? '', error);
    if (outcome !== undefined) assert.equal(end.snapshot.context.outcome, outcome);
  });
}

test('[QX-63] the clock runs for the request first and starts anew when it is complete', () => {
  const clock = new SimulatedClock();
  const done: string[] = [];
  const note = (name: string) => () => void done.push(name);
  const machine = querySessionMachine.provide({
    actors: { identify: fromPromise(async () => {}), parse: fromPromise<void>(() => new Promise(() => {})) },
    actions: {
      readRequest: note('readRequest'),
      cancelExecution: note('cancelExecution'),
      writeError: note('writeError'),
      release: note('release'),
    },
  });
  const actor = createActor(machine, { input, clock }).start();
  return new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
    assert.equal(actor.getSnapshot().value, 'receiving');
    clock.increment(900);
    actor.send({ type: 'request.received' });
    clock.increment(900);
    assert.equal(actor.getSnapshot().value, 'parsing');
    clock.increment(100);
    assert.equal(actor.getSnapshot().value, 'timedOut');
    clock.increment(50);
    assert.equal(actor.getSnapshot().value, 'closed');
    assert.deepEqual(done, ['readRequest', 'cancelExecution', 'writeError', 'release']);
    assert.equal(actor.getSnapshot().context.outcome, 'timedOut');
  });
});

test('[QX-2] effects and actors that nobody provided fail loudly', () => {
  const failures: unknown[] = [];
  const actor = createActor(querySessionMachine, { input });
  actor.subscribe({ error: (error) => failures.push(error) });
  actor.start();
  actor.send({ type: 'client.left' });
  assert.match(String(failures[0]), /cancelExecution: not provided/);
});

test('[WIRE-5] [WIRE-7] [WIRE-9] whatever happens: one last message, nothing behind it, one release', () => {
  const onward: Readonly<Record<string, Step>> = {
    identifying: identified,
    receiving: received,
    parsing: parsed,
    planning: planned,
    executing: frame,
    delivering: finished,
    catchingUp: live,
    watching: batch,
  };
  const anything = [
    noToken,
    malformed,
    badText,
    plannedNothing,
    plannedStream,
    live,
    batch,
    blockedBatch,
    noSlot,
    failed,
    { type: 'frame.flushed' },
    flushed,
    frame,
    left,
    deadline,
    stop,
    graceOver,
    timeoutGraceOver,
  ];
  // Most steps lead on, so that the walks get far before something ends them.
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary: fc.constantFrom<Step[]>(...anything) },
  );
  const edges = new Set<string>();
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.boolean(), (events, streaming) => {
      let [snapshot, first] = initialTransition(querySessionMachine, input);
      const done: string[] = first.map(({ type }) => type);
      for (const choice of events) {
        if (snapshot.status !== 'active') break;
        const before = snapshot.value;
        const planning = streaming && before === 'planning' ? plannedStream : null;
        const event = choice ?? planning ?? onward[String(before)] ?? frame;
        let actions: readonly { readonly type: string }[];
        [snapshot, actions] = transition(querySessionMachine, snapshot, event as QuerySessionEvent);
        done.push(...actions.map(({ type }) => type));
        if (snapshot.value !== before) edges.add(`${String(before)} ${String(snapshot.value)}`);
      }
      const last = done.findIndex((type) => type === 'writeEnd' || type === 'writeError');
      const writes = done.slice(last + 1).filter((type) => type.startsWith('write'));
      if (last >= 0) assert.deepEqual(writes, [], 'nothing is written behind the last message');
      assert.ok(done.indexOf('startExecution') === done.lastIndexOf('startExecution'));
      assert.equal(done.filter((type) => type === 'release').length, snapshot.value === 'closed' ? 1 : 0);
      if (done.includes('writeEnd'))
        assert.ok(done.some((type) => type === 'writeFrame' || type === 'writeNothing'));
    }),
    { numRuns: 3000, seed: 7 },
  );
  for (const edge of [
    'delivering catchingUp',
    'catchingUp watching',
    'watching rejected',
    'watching closed',
    'planning executing',
    'delivering timedOut',
    'finishing closed',
    'executing rejected',
  ]) {
    assert.ok(edges.has(edge), `the walk took ${edge}`);
  }
});
