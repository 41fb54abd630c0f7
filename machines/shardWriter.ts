/**
 * One shard's writer: takes segments from its channel, commits them, and says so.
 *
 *     recovering → idle ⇄ batching → committing → idle
 *                  idle → committing, when half a channel comes at once
 *                             committing → degraded → committing
 *                     idle, committing → yielding → batching or idle, while retention deletes
 *     any of them → finalCommit ⇄ drained → closing → closed
 *
 * The machine decides when to commit and what to do after a failure. Rows, segments, lost ranges and
 * the SQLite connection belong to the actor (actors/shardWriter).
 */
import { assign, fromPromise, setup } from './xstate.js';

/** Bounds of the algorithm; live settings (CFG-21, CFG-22). */
export interface WriterLimits {
  readonly maxBatchSize: number;
  readonly maxBatchLatencyMs: number;
}

export interface ShardWriterInput {
  readonly shard: number;
  readonly limits: WriterLimits;
}

/** What one successful transaction did. */
export interface CommitReport {
  /** Rows inserted: events, gap records and other synthetic rows. */
  readonly rows: number;
  readonly events: number;
  readonly bytes: number;
  /** Time inside the transaction, ms. */
  readonly commitMs: number;
  /** More is waiting in the channel or among synthetic rows. */
  readonly more: boolean;
  /** How long to let the next batch grow, ms (ING-54). */
  readonly lingerMs: number;
}

/** A run of one CPU's sequences that a failed commit lost (FAIL-5, FAIL-6). */
export interface LostRange {
  readonly cpu: number;
  readonly first: bigint;
  readonly last: bigint;
}

/** Why a transaction failed; plain data, it crosses threads. */
export interface CommitFailure {
  readonly code: string;
  readonly message: string;
  /** The file itself is damaged: it must not be written again (FAIL-13, FAIL-15). */
  readonly corrupt: boolean;
  readonly lost: readonly LostRange[];
}

export interface ShardWriterContext {
  readonly shard: number;
  readonly limits: WriterLimits;
  /** ms the next batch may grow. */
  readonly lingerMs: number;
  /** Something arrived while a commit ran. */
  readonly arrived: boolean;
  /** A stop was asked for while a commit ran. */
  readonly stopping: boolean;
  /** Consecutive failed commits. */
  readonly failures: number;
  /** Failed final commits since one that stored events. */
  readonly finalFailures: number;
  /** Close as soon as everything is committed. */
  readonly closing: boolean;
  readonly lastFailure: CommitFailure | null;
  /** Retention asks for its turn. */
  readonly leaseWanted: boolean;
  /** Retention has it. */
  readonly leased: boolean;
  readonly commits: number;
  readonly rows: number;
}

export type ShardWriterEvent =
  /** A drain thread put rows into the empty channel, or the channel passed half its room, in rows or in bytes. */
  | { type: 'batch.available'; halfFull: boolean }
  /** A synthetic row waits to be stored. */
  | { type: 'synthetic.queued' }
  | { type: 'limits.changed'; limits: WriterLimits }
  /** Retention wants to delete a batch (RET-8). */
  | { type: 'lease.requested' }
  /** It has, or does not want to any more. */
  | { type: 'lease.returned' }
  /** All feeding readers have finished: commit what is left (LIFE-204). */
  | { type: 'writer.stop' }
  /** Close the connection (LIFE-207), after the final commit. */
  | { type: 'writer.close' };

export type ShardWriterOutput =
  | { readonly type: 'closed'; readonly rows: number }
  | { readonly type: 'failed'; readonly failure: CommitFailure };

/** First retry after a failed commit, ms; doubles up to the longest. */
export const FIRST_RETRY_MS = 100;
export const LONGEST_RETRY_MS = 5000;

/** Retention has its turn no longer than this, ms: it may have died (FAIL-33). A batch takes a few ms. */
export const LEASE_BOUND_MS = 500;

/** Failed final commits before the rest is given up; the rings or the gap after restart keep the record (LIFE-211). */
export const FINAL_ATTEMPTS = 3;

/** Reads the failure out of what a rejected commit carries. */
function failureOf(error: unknown): CommitFailure {
  const { code, message, corrupt, lost } = error as Partial<CommitFailure>;
  return {
    code: code ?? 'ERR_UNKNOWN',
    message: message ?? String(error),
    corrupt: corrupt ?? false,
    lost: lost ?? [],
  };
}

/** What every successful commit does: keep the figures, tell the daemon. */
const committed = (['noteCommit', 'announceCommit'] as const).map((type) => ({
  type,
  params: ({ event }: { event: { output: CommitReport } }) => event.output,
}));

/** What every failed one does. */
const commitFailed = (['noteFailure', 'announceFailure'] as const).map((type) => ({
  type,
  params: ({ event }: { event: { error: unknown } }) => failureOf(event.error),
}));

/** Where the writer goes on when retention has had its turn. */
const afterLease = [
  { guard: 'failing', target: 'committing', actions: 'forgetArrival' },
  { guard: { type: 'moreWaits', params: { more: false } }, target: 'batching', actions: 'forgetArrival' },
  { target: 'idle' },
] as const;

export const shardWriterMachine = setup({
  types: {
    input: {} as ShardWriterInput,
    context: {} as ShardWriterContext,
    events: {} as ShardWriterEvent,
    output: {} as ShardWriterOutput,
  },
  actors: {
    /** Opens the shard and reads its watermarks. */
    open: fromPromise<void, { shard: number }>(() => Promise.reject(new Error('open: not provided'))),
    /** One transaction: gap records for lost ranges first, then synthetic rows, then the segment. */
    commit: fromPromise<CommitReport, { limits: WriterLimits }>(() =>
      Promise.reject(new Error('commit: not provided')),
    ),
    close: fromPromise<void>(() => Promise.reject(new Error('close: not provided'))),
  },
  actions: {
    announceReady: () => {
      throw new Error('announceReady: not provided');
    },
    announceDrained: () => {
      throw new Error('announceDrained: not provided');
    },
    announceReadOnly: () => {
      throw new Error('announceReadOnly: not provided');
    },
    announceCommit: (_, _params: CommitReport) => {
      throw new Error('announceCommit: not provided');
    },
    announceFailure: (_, _params: CommitFailure) => {
      throw new Error('announceFailure: not provided');
    },
    applyLimits: (_, _params: WriterLimits) => {
      throw new Error('applyLimits: not provided');
    },
    grantLease: () => {
      throw new Error('grantLease: not provided');
    },
    rememberLimits: assign((_, limits: WriterLimits) => ({ limits })),
    noteArrival: assign({ arrived: true }),
    forgetArrival: assign({ arrived: false }),
    forgetLinger: assign({ lingerMs: 0 }),
    noteStop: assign({ stopping: true }),
    noteCommit: assign(({ context }, report: CommitReport) => ({
      arrived: false,
      // Gap records alone prove little: the back-off goes on until events are stored again.
      failures: report.events > 0 ? 0 : context.failures,
      finalFailures: report.events > 0 ? 0 : context.finalFailures,
      lastFailure: null,
      lingerMs: report.lingerMs,
      commits: context.commits + 1,
      rows: context.rows + report.rows,
    })),
    noteFailure: assign(({ context }, failure: CommitFailure) => ({
      arrived: false,
      failures: context.failures + 1,
      lastFailure: failure,
    })),
    noteFinalFailure: assign(({ context }) => ({ finalFailures: context.finalFailures + 1 })),
    noteClose: assign({ closing: true }),
    noteLeaseWanted: assign({ leaseWanted: true }),
    noteLease: assign({ leaseWanted: false, leased: true }),
    forgetLease: assign({ leaseWanted: false, leased: false }),
    endLease: assign({ leased: false }),
  },
  guards: {
    noLinger: ({ context }) => context.lingerMs === 0,
    fillsHalf: (_, { halfFull }: { halfFull: boolean }) => halfFull,
    stopping: ({ context }) => context.stopping,
    moreWaits: ({ context }, params: { more: boolean }) => params.more || context.arrived,
    leaseWanted: ({ context }) => context.leaseWanted,
    leased: ({ context }) => context.leased,
    /** Retention has its turn though more waits: else it would never come under load. */
    yieldsWithMore: ({ context }, params: { more: boolean }) =>
      context.leaseWanted && (params.more || context.arrived),
    failing: ({ context }) => context.failures > 0,
    corrupt: (_, params: { failure: CommitFailure }) => params.failure.corrupt,
    closing: ({ context }) => context.closing,
    triedEnough: ({ context }) => context.finalFailures + 1 >= FINAL_ATTEMPTS,
  },
  delays: {
    linger: ({ context }) => context.lingerMs,
    leaseBound: LEASE_BOUND_MS,
    retry: ({ context }) =>
      Math.min(FIRST_RETRY_MS * 2 ** Math.max(context.failures - 1, 0), LONGEST_RETRY_MS),
  },
}).createMachine({
  id: 'shardWriter',
  context: ({ input }) => ({
    shard: input.shard,
    limits: input.limits,
    lingerMs: 0,
    arrived: false,
    stopping: false,
    failures: 0,
    finalFailures: 0,
    closing: false,
    lastFailure: null,
    leaseWanted: false,
    leased: false,
    commits: 0,
    rows: 0,
  }),
  initial: 'recovering',
  on: {
    'limits.changed': {
      actions: [
        { type: 'rememberLimits', params: ({ event }) => event.limits },
        { type: 'applyLimits', params: ({ event }) => event.limits },
      ],
    },
    'lease.requested': { actions: 'noteLeaseWanted' },
    'lease.returned': { actions: 'forgetLease' },
  },
  states: {
    recovering: {
      description: 'Opens the shard; SQLite rolls back what a crash left open (LIFE-221).',
      on: {
        'batch.available': { actions: 'noteArrival' },
        'synthetic.queued': { actions: 'noteArrival' },
        'writer.stop': { actions: 'noteStop' },
      },
      invoke: {
        src: 'open',
        input: ({ context }) => ({ shard: context.shard }),
        onDone: [
          { guard: 'stopping', target: 'finalCommit', actions: 'announceReady' },
          {
            target: 'batching',
            guard: { type: 'moreWaits', params: { more: false } },
            actions: 'announceReady',
          },
          { target: 'idle', actions: 'announceReady' },
        ],
        onError: {
          target: 'failed',
          actions: commitFailed,
        },
      },
    },
    idle: {
      description: 'Nothing to store. No transaction is open while waiting (ING-58).',
      always: { guard: 'leaseWanted', target: 'yielding', actions: ['noteLease', 'grantLease'] },
      on: {
        'batch.available': [
          { guard: { type: 'fillsHalf', params: ({ event }) => event }, target: 'committing' },
          { target: 'batching' },
        ],
        'synthetic.queued': 'batching',
        'writer.stop': 'finalCommit',
      },
    },
    batching: {
      description: 'Rows wait in the channel; grows the batch while that buys throughput (ING-51..54).',
      always: { guard: 'noLinger', target: 'committing' },
      after: { linger: 'committing' },
      on: {
        'batch.available': {
          guard: { type: 'fillsHalf', params: ({ event }) => event },
          target: 'committing',
        },
        'writer.stop': 'finalCommit',
      },
    },
    committing: {
      description: 'One transaction with everything taken from the channel (ING-48).',
      on: {
        'batch.available': { actions: 'noteArrival' },
        'synthetic.queued': { actions: 'noteArrival' },
        'writer.stop': { actions: 'noteStop' },
      },
      invoke: {
        src: 'commit',
        input: ({ context }) => ({ limits: context.limits }),
        onDone: [
          {
            guard: 'stopping',
            target: 'finalCommit',
            actions: committed,
          },
          {
            guard: { type: 'yieldsWithMore', params: ({ event }) => ({ more: event.output.more }) },
            target: 'yielding',
            actions: [...committed, 'noteArrival', 'noteLease', 'grantLease'],
          },
          {
            guard: { type: 'moreWaits', params: ({ event }) => ({ more: event.output.more }) },
            target: 'batching',
            actions: committed,
          },
          {
            target: 'idle',
            actions: committed,
          },
        ],
        onError: [
          {
            guard: { type: 'corrupt', params: ({ event }) => ({ failure: failureOf(event.error) }) },
            target: 'readOnly',
            actions: commitFailed,
          },
          {
            guard: 'stopping',
            target: 'finalCommit',
            actions: commitFailed,
          },
          {
            target: 'degraded',
            actions: commitFailed,
          },
        ],
      },
    },
    degraded: {
      description:
        'A commit failed: its ranges are remembered and become gap records first of all (FAIL-3..9).',
      tags: 'degraded',
      // Nothing is written here anyway, and what retention frees may be what is missing (FAIL-8).
      always: { guard: 'leaseWanted', actions: ['noteLease', 'grantLease'] },
      after: { retry: [{ guard: 'leased', target: 'yielding' }, { target: 'committing' }] },
      on: { 'writer.stop': 'finalCommit' },
    },
    yielding: {
      description: 'Retention deletes one batch, and nothing is written here meanwhile (RET-8).',
      exit: 'endLease',
      on: {
        // What was measured before the turn says nothing about half a batch that came during it (ING-52).
        'batch.available': [
          {
            guard: { type: 'fillsHalf', params: ({ event }) => event },
            actions: ['noteArrival', 'forgetLinger'],
          },
          { actions: 'noteArrival' },
        ],
        'synthetic.queued': { actions: 'noteArrival' },
        'lease.returned': [...afterLease],
        // A batch under way holds SQLite's lock: the commit waits for its end.
        'writer.stop': 'finalCommit',
      },
      after: { leaseBound: [...afterLease] },
    },
    readOnly: {
      description:
        'The file is damaged and is not written again (FAIL-13); the supervisor decides what follows.',
      tags: 'degraded',
      entry: 'announceReadOnly',
      always: { guard: 'stopping', target: 'closing' },
      on: { 'writer.stop': 'closing' },
    },
    finalCommit: {
      description: 'Commits whatever is left, regardless of size (LIFE-204).',
      on: {
        'synthetic.queued': { actions: 'noteArrival' },
        'batch.available': { actions: 'noteArrival' },
        'writer.close': { actions: 'noteClose' },
      },
      invoke: {
        src: 'commit',
        input: ({ context }) => ({ limits: context.limits }),
        onDone: [
          {
            guard: { type: 'moreWaits', params: ({ event }) => ({ more: event.output.more }) },
            target: 'finalCommit',
            reenter: true,
            actions: committed,
          },
          {
            target: 'drained',
            actions: committed,
          },
        ],
        onError: [
          {
            // A damaged file gets no further attempt; what it lacks is found missing by the next start.
            guard: { type: 'corrupt', params: ({ event }) => ({ failure: failureOf(event.error) }) },
            target: 'closing',
            actions: [...commitFailed, 'announceReadOnly'],
          },
          {
            guard: 'triedEnough',
            target: 'drained',
            actions: [...commitFailed, 'noteFinalFailure'],
          },
          {
            target: 'finalCommit',
            reenter: true,
            actions: [...commitFailed, 'noteFinalFailure'],
          },
        ],
      },
    },
    drained: {
      description: 'Everything is committed; the shutdown record may still come (LIFE-206).',
      entry: 'announceDrained',
      always: { guard: 'closing', target: 'closing' },
      on: { 'synthetic.queued': 'finalCommit', 'writer.close': 'closing' },
    },
    closing: {
      description: 'Checkpoints and closes the connection (LIFE-207).',
      invoke: { src: 'close', onDone: 'closed', onError: 'closed' },
    },
    closed: { type: 'final' },
    failed: { type: 'final' },
  },
  output: ({ context }): ShardWriterOutput =>
    context.lastFailure !== null && context.commits === 0
      ? { type: 'failed', failure: context.lastFailure }
      : { type: 'closed', rows: context.rows },
});
