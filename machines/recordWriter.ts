/**
 * The writer of the log store or the metric store: takes datagrams from its receiver, commits their
 * records, and says so.
 *
 *     recovering → idle ⇄ batching → committing → idle
 *                             committing → degraded → retrying → committing
 *                     idle, committing → yielding → batching or idle, while retention deletes
 *     a damaged or vanished file: replacing → recovering; an unknown version: discarding
 *     any of them → draining ⇄ awaitingEnd → drained → closing → closed
 *
 * The machine decides when to commit and what to do after a failure. Losing records is tolerable (LOG-2,
 * MET-12), so nothing here keeps accounts of them: a failed batch is gone, and the receiver goes on
 * taking and dropping whatever the writer does. The SQLite connection and the batch in hand belong to
 * the actor (actors/recordWriter.ts).
 */
import { assign, fromPromise, setup } from './xstate.js';

export type RecordStore = 'log' | 'metric';

/** Bounds of the algorithm; live settings (LOG-27, LOG-28, MET-33, MET-40). */
export interface RecordLimits {
  readonly maxBatchSize: number;
  readonly maxBatchLatencyMs: number;
  /** Entries of the series cache; null in a log store. */
  readonly seriesCacheSize: number | null;
}

export interface RecordWriterInput {
  readonly store: RecordStore;
  readonly limits: RecordLimits;
  /** Bytes the receiver takes while the writer has a batch in hand. */
  readonly bufferBytes: number;
}

/** What one successful transaction did. */
export interface RecordReport {
  readonly records: number;
  readonly bytes: number;
  /** Time inside the transaction and its decoding, ms. */
  readonly commitMs: number;
  /** More waits to be decoded. */
  readonly more: boolean;
  /** The receiver has ended and nothing is left of what it read. */
  readonly finished: boolean;
  /** How long to let the next batch grow, ms. */
  readonly lingerMs: number;
}

/** Why something failed; plain data, it crosses threads. */
export interface RecordFailure {
  readonly code: string;
  readonly message: string;
  /** What must happen to the file before it is written again; `version`: never (FAIL-21). */
  readonly damage: 'none' | 'gone' | 'corrupt' | 'version';
  /** Decoded records that went with it. */
  readonly lost: number;
}

/** How a file was replaced. */
export interface Replacement {
  /** Where the damaged file is now; null when the file was gone already. */
  readonly aside: string | null;
}

export interface RecordWriterContext {
  readonly store: RecordStore;
  readonly limits: RecordLimits;
  readonly bufferBytes: number;
  /** How the file stands. */
  readonly file: 'closed' | 'open' | 'gone' | 'corrupt';
  /** ms the next batch may grow. */
  readonly lingerMs: number;
  /** Something arrived while the writer was busy. */
  readonly arrived: boolean;
  /** Commit what is left, take nothing new. */
  readonly stopping: boolean;
  /** Close as soon as everything is committed. */
  readonly closing: boolean;
  /** Failures since the last commit that stored records: one episode (LOG-47). */
  readonly failures: number;
  /** Failed final commits since one that stored records. */
  readonly finalFailures: number;
  /** Records lost in this episode. */
  readonly lost: number;
  /** Damaged files set aside so far. */
  readonly replacements: number;
  readonly lastFailure: RecordFailure | null;
  /** Retention asks for its turn. */
  readonly leaseWanted: boolean;
  /** Retention has it. */
  readonly leased: boolean;
  readonly commits: number;
  readonly records: number;
}

export type RecordWriterEvent =
  /** The receiver's buffer turned non-empty, passed half its size, or has got its last datagram. */
  | { type: 'batch.available'; bytes: number }
  | { type: 'limits.changed'; limits: RecordLimits }
  /** Retention wants to delete a batch (LOG-52, MET-58). */
  | { type: 'lease.requested' }
  /** It has, or does not want to any more. */
  | { type: 'lease.returned' }
  /** The receiver has been told to end: commit what is left (LIFE-202, LIFE-204). */
  | { type: 'writer.stop' }
  /** Close the connection (LIFE-207) after a final commit, whether or not the receiver has ended. */
  | { type: 'writer.close' };

export type RecordWriterOutput = { readonly type: 'closed'; readonly records: number };

/** First retry after a failure, ms; doubles up to the longest. */
export const FIRST_RETRY_MS = 100;
export const LONGEST_RETRY_MS = 5000;

/** Longest wait before another damaged file is set aside: a disk that ruins each new file is not littered. */
export const LONGEST_REPLACEMENT_MS = 600_000;

/** Retention has its turn no longer than this, ms: it may have died. A batch takes a few ms. */
export const LEASE_BOUND_MS = 500;

/** Failed final commits before the rest is given up (LIFE-211). */
export const FINAL_ATTEMPTS = 3;

/** Reads the failure out of what a rejected promise carries. */
function failureOf(error: unknown): RecordFailure {
  const { code, message, damage, lost } = error as Partial<RecordFailure>;
  return {
    code: code ?? 'ERR_UNKNOWN',
    message: message ?? String(error),
    damage: damage ?? 'none',
    lost: lost ?? 0,
  };
}

/** What every successful commit does: tell the daemon, keep the figures. */
const committed = (['announceCommit', 'noteCommit'] as const).map((type) => ({
  type,
  params: ({ event }: { event: { output: RecordReport } }) => event.output,
}));

/** What every failure does. */
const failed = (['noteFailure', 'announceFailure'] as const).map((type) => ({
  type,
  params: ({ event }: { event: { error: unknown } }) => failureOf(event.error),
}));

const failure = ({ event }: { event: { error: unknown } }) => ({ failure: failureOf(event.error) });
const more = ({ event }: { event: { output: RecordReport } }) => ({ more: event.output.more });

/** Where the writer goes on when retention has had its turn. */
const afterLease = [
  { guard: 'failing', target: 'retrying' },
  { guard: { type: 'moreWaits', params: { more: false } }, target: 'batching' },
  { target: 'idle' },
] as const;

export const recordWriterMachine = setup({
  types: {
    input: {} as RecordWriterInput,
    context: {} as RecordWriterContext,
    events: {} as RecordWriterEvent,
    output: {} as RecordWriterOutput,
  },
  actors: {
    /** Opens the store, or makes it; never writes to a file it must not write to. */
    open: fromPromise<void, { limits: RecordLimits }>(() => Promise.reject(new Error('open: not provided'))),
    /** One transaction. */
    commit: fromPromise<RecordReport, { limits: RecordLimits }>(() =>
      Promise.reject(new Error('commit: not provided')),
    ),
    /** Closes the connection without touching the file, and sets a damaged one aside. */
    replace: fromPromise<Replacement, { corrupt: boolean }>(() =>
      Promise.reject(new Error('replace: not provided')),
    ),
    close: fromPromise<void>(() => Promise.reject(new Error('close: not provided'))),
  },
  actions: {
    announceReady: () => {
      throw new Error('announceReady: not provided');
    },
    announceCommit: (_, _params: RecordReport) => {
      throw new Error('announceCommit: not provided');
    },
    announceFailure: (_, _params: RecordFailure) => {
      throw new Error('announceFailure: not provided');
    },
    announceReplaced: (_, _params: Replacement) => {
      throw new Error('announceReplaced: not provided');
    },
    announceDiscarding: (_, _params: RecordFailure) => {
      throw new Error('announceDiscarding: not provided');
    },
    announceDrained: () => {
      throw new Error('announceDrained: not provided');
    },
    /** Gives the buffer back undecoded. */
    discard: () => {
      throw new Error('discard: not provided');
    },
    applyLimits: (_, _params: RecordLimits) => {
      throw new Error('applyLimits: not provided');
    },
    grantLease: () => {
      throw new Error('grantLease: not provided');
    },
    rememberLimits: assign((_, limits: RecordLimits) => ({ limits })),
    noteArrival: assign({ arrived: true }),
    noteStop: assign({ stopping: true }),
    noteClose: assign({ closing: true }),
    noteLeaseWanted: assign({ leaseWanted: true }),
    noteLease: assign({ leaseWanted: false, leased: true }),
    forgetLease: assign({ leaseWanted: false, leased: false }),
    endLease: assign({ leased: false }),
    /** What arrived before is part of the transaction that begins now. */
    forgetArrival: assign({ arrived: false }),
    noteOpen: assign({ file: 'open' }),
    noteReplaced: assign(({ context }, { aside }: Replacement) => ({
      file: 'closed' as const,
      replacements: context.replacements + (aside === null ? 0 : 1),
    })),
    noteCommit: assign(({ context }, { records, lingerMs }: RecordReport) => ({
      // An empty transaction proves nothing about the store.
      ...(records > 0 ? { failures: 0, finalFailures: 0, lost: 0, lastFailure: null } : {}),
      lingerMs,
      commits: context.commits + (records > 0 ? 1 : 0),
      records: context.records + records,
    })),
    noteFailure: assign(({ context }, failure: RecordFailure) => ({
      file: failure.damage === 'gone' || failure.damage === 'corrupt' ? failure.damage : context.file,
      failures: context.failures + 1,
      lost: context.lost + failure.lost,
      lastFailure: failure,
    })),
    noteFinalFailure: assign(({ context }) => ({ finalFailures: context.finalFailures + 1 })),
  },
  guards: {
    noLinger: ({ context }) => context.lingerMs === 0,
    fillsHalf: ({ context }, params: { bytes: number }) => params.bytes * 2 >= context.bufferBytes,
    stopping: ({ context }) => context.stopping,
    closing: ({ context }) => context.closing,
    moreWaits: ({ context }, params: { more: boolean }) => params.more || context.arrived,
    leaseWanted: ({ context }) => context.leaseWanted,
    leased: ({ context }) => context.leased,
    /** Retention has its turn though more waits: else it would never come under load. */
    yieldsWithMore: ({ context }, params: { more: boolean }) =>
      context.leaseWanted && (params.more || context.arrived),
    /** A file that must make way is nobody's to write. */
    mayLend: ({ context }) => context.leaseWanted && context.file === 'open',
    failing: ({ context }) => context.failures > 0,
    finished: (_, params: { finished: boolean }) => params.finished,
    isUnknownVersion: (_, params: { failure: RecordFailure }) => params.failure.damage === 'version',
    /** The file has to make way, and that may happen at once: it is gone anyway, or the first bad one. */
    replaceable: ({ context }, { failure: { damage } }: { failure: RecordFailure }) =>
      damage === 'gone' || (damage === 'corrupt' && context.replacements === 0),
    mustBeReplaced: ({ context }) => context.file === 'gone' || context.file === 'corrupt',
    isClosed: ({ context }) => context.file === 'closed',
    givesUp: ({ context }, { failure: { damage } }: { failure: RecordFailure }) =>
      damage !== 'none' || context.finalFailures + 1 >= FINAL_ATTEMPTS,
  },
  delays: {
    linger: ({ context }) => context.lingerMs,
    leaseBound: LEASE_BOUND_MS,
    retry: ({ context: { file, failures, replacements } }) =>
      file === 'corrupt'
        ? Math.min(FIRST_RETRY_MS * 2 ** replacements, LONGEST_REPLACEMENT_MS)
        : Math.min(FIRST_RETRY_MS * 2 ** Math.max(failures - 1, 0), LONGEST_RETRY_MS),
  },
}).createMachine({
  id: 'recordWriter',
  context: ({ input }) => ({
    ...input,
    file: 'closed',
    lingerMs: 0,
    arrived: false,
    stopping: false,
    closing: false,
    failures: 0,
    finalFailures: 0,
    lost: 0,
    replacements: 0,
    lastFailure: null,
    leaseWanted: false,
    leased: false,
    commits: 0,
    records: 0,
  }),
  initial: 'recovering',
  on: {
    'batch.available': { actions: 'noteArrival' },
    'limits.changed': {
      actions: [
        { type: 'rememberLimits', params: ({ event }) => event.limits },
        { type: 'applyLimits', params: ({ event }) => event.limits },
      ],
    },
    'lease.requested': { actions: 'noteLeaseWanted' },
    'lease.returned': { actions: 'forgetLease' },
    'writer.stop': { actions: 'noteStop' },
    'writer.close': { actions: ['noteStop', 'noteClose'] },
  },
  states: {
    recovering: {
      description: 'Opens the store or makes it; SQLite rolls back what a crash left open (LIFE-221).',
      invoke: {
        src: 'open',
        input: ({ context }) => ({ limits: context.limits }),
        onDone: [
          { guard: 'stopping', target: 'draining', actions: ['noteOpen', 'announceReady'] },
          // What came before a file had to make way waits without another wake-up.
          { target: 'committing', actions: ['noteOpen', 'announceReady'] },
        ],
        onError: [
          {
            guard: { type: 'isUnknownVersion', params: failure },
            target: 'discarding',
            actions: { type: 'announceDiscarding', params: ({ event }) => failureOf(event.error) },
          },
          { guard: { type: 'replaceable', params: failure }, target: 'replacing', actions: failed },
          { guard: 'stopping', target: 'drained', actions: failed },
          { target: 'degraded', actions: failed },
        ],
      },
    },
    idle: {
      description: 'Nothing to store. No transaction is open while waiting (LOG-29, LOG-32).',
      always: [
        { guard: 'stopping', target: 'draining' },
        { guard: 'leaseWanted', target: 'yielding', actions: ['noteLease', 'grantLease'] },
      ],
      on: { 'batch.available': 'batching' },
    },
    batching: {
      description: 'Datagrams wait in the buffer; grows the batch while that buys throughput (LOG-26).',
      always: [
        { guard: 'stopping', target: 'draining' },
        { guard: 'noLinger', target: 'committing' },
      ],
      after: { linger: 'committing' },
      on: {
        'batch.available': {
          guard: { type: 'fillsHalf', params: ({ event }) => ({ bytes: event.bytes }) },
          target: 'committing',
        },
      },
    },
    committing: {
      description: 'One transaction with the next records, at most LogMaxBatchSize or MetricMaxBatchSize.',
      entry: 'forgetArrival',
      invoke: {
        src: 'commit',
        input: ({ context }) => ({ limits: context.limits }),
        onDone: [
          { guard: 'stopping', target: 'draining', actions: committed },
          {
            guard: { type: 'yieldsWithMore', params: more },
            target: 'yielding',
            actions: [...committed, 'noteArrival', 'noteLease', 'grantLease'],
          },
          { guard: { type: 'moreWaits', params: more }, target: 'batching', actions: committed },
          { target: 'idle', actions: committed },
        ],
        onError: [
          { guard: { type: 'replaceable', params: failure }, target: 'replacing', actions: failed },
          { target: 'degraded', actions: failed },
        ],
      },
    },
    degraded: {
      description:
        'Something failed, and its batch is lost (FAIL-10). The buffer keeps taking and dropping meanwhile.',
      tags: 'degraded',
      always: [
        { guard: 'stopping', target: 'retrying' },
        // Nothing is written here anyway, and what retention frees may be what is missing (FAIL-8).
        { guard: 'mayLend', actions: ['noteLease', 'grantLease'] },
      ],
      after: { retry: [{ guard: 'leased', target: 'yielding' }, { target: 'retrying' }] },
    },
    yielding: {
      description: 'Retention deletes one batch, and nothing is written here meanwhile (LOG-52, MET-58).',
      exit: 'endLease',
      // A batch under way holds SQLite's lock: the commit waits for its end.
      always: { guard: 'stopping', target: 'draining' },
      on: { 'lease.returned': [...afterLease] },
      after: { leaseBound: [...afterLease] },
    },
    retrying: {
      description: 'Does what the failure left to be done.',
      always: [
        { guard: 'mustBeReplaced', target: 'replacing' },
        { guard: 'isClosed', target: 'recovering' },
        { guard: 'stopping', target: 'draining' },
        { target: 'committing' },
      ],
    },
    replacing: {
      description:
        'The file is damaged or gone: closes it, and renames a damaged one; a fresh one follows (FAIL-18, FAIL-19).',
      tags: 'degraded',
      invoke: {
        src: 'replace',
        input: ({ context }) => ({ corrupt: context.file === 'corrupt' }),
        onDone: {
          target: 'recovering',
          actions: (['noteReplaced', 'announceReplaced'] as const).map((type) => ({
            type,
            params: ({ event }: { event: { output: Replacement } }) => event.output,
          })),
        },
        onError: [
          { guard: 'stopping', target: 'drained', actions: failed },
          { target: 'degraded', actions: failed },
        ],
      },
    },
    discarding: {
      description: 'Unknown schema version: records are taken and dropped, the file is left alone (FAIL-21).',
      tags: 'degraded',
      entry: 'discard',
      always: { guard: 'stopping', target: 'drained' },
      on: { 'batch.available': { actions: 'discard' } },
    },
    draining: {
      description: 'Commits whatever is left, regardless of size (LIFE-202, LIFE-204).',
      entry: 'forgetArrival',
      invoke: {
        src: 'commit',
        input: ({ context }) => ({ limits: context.limits }),
        onDone: [
          {
            guard: { type: 'moreWaits', params: more },
            target: 'draining',
            reenter: true,
            actions: committed,
          },
          {
            guard: { type: 'finished', params: ({ event }) => ({ finished: event.output.finished }) },
            target: 'drained',
            actions: committed,
          },
          { target: 'awaitingEnd', actions: committed },
        ],
        onError: [
          { guard: { type: 'replaceable', params: failure }, target: 'replacing', actions: failed },
          {
            guard: { type: 'givesUp', params: failure },
            target: 'drained',
            actions: [...failed, 'noteFinalFailure'],
          },
          { target: 'draining', reenter: true, actions: [...failed, 'noteFinalFailure'] },
        ],
      },
    },
    awaitingEnd: {
      description: 'The receiver still reads what its socket held; its last word is a wake-up.',
      always: { guard: 'closing', target: 'drained' },
      on: { 'batch.available': 'draining' },
    },
    drained: {
      description: 'Everything is committed or given up; the daemon says when to close (LIFE-207).',
      entry: 'announceDrained',
      always: { guard: 'closing', target: 'closing' },
    },
    closing: {
      description: 'Checkpoints and closes the connection (LIFE-207).',
      invoke: { src: 'close', onDone: 'closed', onError: 'closed' },
    },
    closed: { type: 'final' },
  },
  output: ({ context }): RecordWriterOutput => ({ type: 'closed', records: context.records }),
});
