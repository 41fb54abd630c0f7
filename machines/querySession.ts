/**
 * One connection to the query socket, from accept to close (QX-2, QX-61..64, WIRE-7..9, STR-2).
 *
 * The machine decides; it holds no socket, no frame and no query text. Frames wait outside, at most as
 * many as the worker has credits, and the machine hears that one came or went. A STREAM goes on where
 * other queries end: it catches up with what was committed meanwhile, and then watches.
 */
import { assign, cancel, fromPromise, raise, setup } from './xstate.js';

/** What a session is started with. */
export interface QuerySessionInput {
  /** Time allowed for the request to arrive, and again for the query to be delivered, in ms (QX-62, QX-63). */
  readonly queryTimeoutMs: number;
  /** Time a refused or timed-out client has to take the error before the socket is closed on it, in ms. */
  readonly closeGraceMs: number;
}

export interface QuerySessionContext extends QuerySessionInput {
  /** Wire text of the error that ends the session, null while all is well (WIRE-20). */
  readonly error: string | null;
  /** Records handed to the socket so far. */
  readonly records: number;
  /** The query is a STREAM: it is watched on after its initial set (STR-2). */
  readonly streaming: boolean;
  readonly outcome: QuerySessionOutcome;
}

/** How a session ended; `left` means the client went away first. */
export type QuerySessionOutcome = 'open' | 'delivered' | 'refused' | 'failed' | 'timedOut' | 'left';

/** What planning decided about the execution. */
export type QueryPlanVerdict =
  /** Read the databases. */
  | 'read'
  /** The same, then watch for more (STR-2). */
  | 'stream'
  /** The caller may see nothing, so nothing is read (ACL-31). */
  | 'nothing';

export type QuerySessionEvent =
  /** The one request frame is complete and well formed (WIRE-4). */
  | { readonly type: 'request.received' }
  /** Framing, size or request map are wrong; `text` goes to the client. */
  | { readonly type: 'request.malformed'; readonly text: string }
  /** The worker's next result frame waits to be written. */
  | { readonly type: 'frame.arrived'; readonly records: number }
  /** The kernel took a result frame. */
  | { readonly type: 'frame.flushed' }
  /** The worker sent all its frames and let go of its databases. */
  | { readonly type: 'execution.finished' }
  | { readonly type: 'execution.failed'; readonly text: string }
  /** A stream has caught up with what was committed during its initial set (STR-4). */
  | { readonly type: 'stream.live' }
  /** One committed batch has records for the stream; `blocked`: the one before is not sent yet (STR-12). */
  | { readonly type: 'batch.arrived'; readonly records: number; readonly blocked: boolean }
  /** Everything written, the end or error message included, is with the kernel. */
  | { readonly type: 'output.flushed' }
  /** The client closed its socket, not only its sending half (QX-64). */
  | { readonly type: 'client.left' }
  | { readonly type: 'deadline.passed' }
  /** The daemon goes down; `text` goes to the client. */
  | { readonly type: 'service.stop'; readonly text: string };

const missing = (name: string) => (): never => {
  throw new Error(`${name}: not provided`);
};

/** What a client too slow for its stream is told (STR-15). */
const TOO_SLOW = 'backpressure: the client did not read fast enough to keep up with the stream';

const DEADLINE = 'deadline';
const GRACE = 'grace';

export const querySessionMachine = setup({
  types: {
    input: {} as QuerySessionInput,
    context: {} as QuerySessionContext,
    events: {} as QuerySessionEvent,
  },
  actors: {
    /** Takes the caller's token from the accepted socket (QX-8). Rejects with the wire text. */
    identify: fromPromise<void>(() => Promise.reject(new Error('identify: not provided'))),
    /** Parses the request text (QX-1, QX-7). Rejects with the wire text. */
    parse: fromPromise<void>(() => Promise.reject(new Error('parse: not provided'))),
    /** Takes a query slot, then does the checks of class V (QX-2, QX-61). Rejects with the wire text. */
    plan: fromPromise<QueryPlanVerdict>(() => Promise.reject(new Error('plan: not provided'))),
  },
  actions: {
    /** Begins to read the request from the socket. */
    readRequest: missing('readRequest'),
    /** Hands the plan to a worker thread. */
    startExecution: missing('startExecution'),
    /** Nobody waits for results any more: ends planning and watching, interrupts the worker; harmless without them. */
    cancelExecution: missing('cancelExecution'),
    /** Writes the frame that waits longest. */
    writeFrame: missing('writeFrame'),
    /** Watches on from where the initial set was read: first what was committed since (STR-3). */
    startWatching: missing('startWatching'),
    /** Writes the records of one committed batch. */
    writeBatch: missing('writeBatch'),
    /** Writes one result message without records (WIRE-7). */
    writeNothing: missing('writeNothing'),
    /** Lets the worker fill one more frame. */
    grantCredit: missing('grantCredit'),
    /** Writes the end message and ends our side of the stream (WIRE-9). */
    writeEnd: missing('writeEnd'),
    /** Writes the error message and ends our side of the stream. */
    writeError: (_, _params: { readonly text: string }) => missing('writeError')(),
    /** Closes the socket and gives the slot back. */
    release: missing('release'),
    startDeadline: raise({ type: 'deadline.passed' }, { id: DEADLINE, delay: 'queryTimeout' }),
    stopDeadline: cancel(DEADLINE),
    /** The deadline comes after the grace time now, if it is not over before. */
    startGrace: raise({ type: 'deadline.passed' }, { id: GRACE, delay: 'closeGrace' }),
    stopGrace: cancel(GRACE),
  },
  delays: {
    queryTimeout: ({ context }) => context.queryTimeoutMs,
    closeGrace: ({ context }) => context.closeGraceMs,
  },
}).createMachine({
  id: 'querySession',
  context: ({ input }) => ({ ...input, error: null, records: 0, streaming: false, outcome: 'open' }),
  initial: 'identifying',
  // The request has as long to arrive as the query has to run; the clock starts anew when it is there.
  entry: 'startDeadline',
  on: {
    'client.left': { target: '.closed', actions: ['cancelExecution', assign({ outcome: 'left' })] },
    'deadline.passed': {
      target: '.timedOut',
      actions: assign({
        error: ({ context }) => `timeout: the query exceeded QueryTimeoutMs (${context.queryTimeoutMs} ms)`,
      }),
    },
    'service.stop': {
      target: '.rejected',
      actions: ['cancelExecution', assign({ outcome: 'failed', error: ({ event }) => event.text })],
    },
  },
  states: {
    identifying: {
      description: 'The peer credentials become a token; without one the query is denied.',
      invoke: {
        src: 'identify',
        onDone: 'receiving',
        onError: {
          target: 'rejected',
          actions: assign({ outcome: 'refused', error: ({ event }) => textOf(event.error) }),
        },
      },
    },
    receiving: {
      description: 'Bytes of the one request frame come in; an oversize one is known by its header.',
      entry: 'readRequest',
      on: {
        'request.received': { target: 'parsing', actions: ['stopDeadline', 'startDeadline'] },
        'deadline.passed': {
          target: 'timedOut',
          actions: assign({
            error: ({ context }) =>
              `timeout: the request was not complete within QueryTimeoutMs (${context.queryTimeoutMs} ms)`,
          }),
        },
        'request.malformed': {
          target: 'rejected',
          actions: assign({ outcome: 'refused', error: ({ event }) => event.text }),
        },
      },
    },
    parsing: {
      description: 'The text becomes a syntax tree; a parse error is answered before anything is taken.',
      invoke: {
        src: 'parse',
        onDone: 'planning',
        onError: {
          target: 'rejected',
          actions: assign({ outcome: 'refused', error: ({ event }) => textOf(event.error) }),
        },
      },
    },
    planning: {
      description: 'A slot is taken, then the tree is checked against clock, settings and caller.',
      invoke: {
        src: 'plan',
        onDone: [
          {
            guard: ({ event }) => event.output === 'nothing',
            target: 'finishing',
            actions: 'writeNothing',
          },
          {
            target: 'executing',
            actions: assign({ streaming: ({ event }) => event.output === 'stream' }),
          },
        ],
        onError: {
          target: 'rejected',
          actions: assign({ outcome: 'refused', error: ({ event }) => textOf(event.error) }),
        },
      },
    },
    executing: {
      description: 'A worker thread searches; nothing has been sent yet.',
      entry: 'startExecution',
      on: {
        'frame.arrived': {
          target: 'delivering',
          actions: [
            'writeFrame',
            assign({ records: ({ context, event }) => context.records + event.records }),
          ],
        },
        'execution.failed': {
          target: 'rejected',
          actions: assign({ outcome: 'failed', error: ({ event }) => event.text }),
        },
      },
    },
    delivering: {
      description: 'Frames go out as fast as the client takes them; a taken frame is a credit for the next.',
      on: {
        'frame.arrived': {
          actions: [
            'writeFrame',
            assign({ records: ({ context, event }) => context.records + event.records }),
          ],
        },
        'frame.flushed': { actions: 'grantCredit' },
        'execution.finished': [
          { guard: ({ context }) => context.streaming, target: 'catchingUp' },
          { target: 'finishing' },
        ],
        'execution.failed': {
          target: 'rejected',
          actions: assign({ outcome: 'failed', error: ({ event }) => event.text }),
        },
      },
    },
    catchingUp: {
      description:
        'The initial set is out; what was committed since it was read follows, at the client’s pace.',
      entry: 'startWatching',
      on: {
        'frame.arrived': {
          actions: [
            'writeFrame',
            assign({ records: ({ context, event }) => context.records + event.records }),
          ],
        },
        'frame.flushed': { actions: 'grantCredit' },
        'stream.live': 'watching',
        'execution.failed': {
          target: 'rejected',
          actions: assign({ outcome: 'failed', error: ({ event }) => event.text }),
        },
      },
    },
    watching: {
      description: 'Each committed batch is a unit; who has not taken one when the next comes is dropped.',
      tags: 'watching',
      entry: 'stopDeadline',
      on: {
        'batch.arrived': [
          {
            guard: ({ event }) => event.blocked,
            target: 'rejected',
            actions: ['cancelExecution', assign({ outcome: 'failed', error: TOO_SLOW })],
          },
          {
            actions: [
              'writeBatch',
              assign({ records: ({ context, event }) => context.records + event.records }),
            ],
          },
        ],
        'execution.failed': {
          target: 'rejected',
          actions: assign({ outcome: 'failed', error: ({ event }) => event.text }),
        },
        // The watch phase has no time limit (STR-4).
        'deadline.passed': {},
      },
    },
    finishing: {
      description: 'The end message is written; what the client has not taken yet is still on its way.',
      entry: 'writeEnd',
      on: {
        'output.flushed': { target: 'closed', actions: assign({ outcome: 'delivered' }) },
        // Nothing may follow the end message, so whoever is too slow for it is cut off.
        'deadline.passed': { target: 'closed', actions: assign({ outcome: 'timedOut' }) },
        'service.stop': { actions: 'startGrace' },
      },
    },
    rejected: {
      description: 'The error is on its way; whoever does not take it in time is cut off.',
      tags: 'ending',
      entry: [
        'stopDeadline',
        { type: 'writeError', params: ({ context }) => ({ text: context.error ?? '' }) },
      ],
      on: { 'output.flushed': 'closed', 'client.left': 'closed', 'deadline.passed': {}, 'service.stop': {} },
      after: { closeGrace: 'closed' },
    },
    timedOut: {
      description: 'QueryTimeoutMs is over: the search is cancelled and the client told.',
      tags: 'ending',
      entry: [
        'stopDeadline',
        'cancelExecution',
        assign({ outcome: 'timedOut' }),
        { type: 'writeError', params: ({ context }) => ({ text: context.error ?? '' }) },
      ],
      on: { 'output.flushed': 'closed', 'client.left': 'closed', 'deadline.passed': {}, 'service.stop': {} },
      after: { closeGrace: 'closed' },
    },
    closed: {
      description: 'The socket is closed and everything the query held is given back.',
      type: 'final',
      entry: ['stopDeadline', 'stopGrace', 'release'],
    },
  },
  output: ({ context }) => ({ outcome: context.outcome, records: context.records, error: context.error }),
});

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
