/**
 * The shard writer actor: gives the machine its transactions and turns what it does into messages.
 * Runs in the shard's own thread (worker.ts), or in a test's.
 */

import { setImmediate as turn } from 'node:timers/promises';
import type { ActorOptions, ActorRefFrom, InspectionEvent } from 'xstate';
import { type CommitFailure, shardWriterMachine, type WriterLimits } from '../../machines/shardWriter.js';
import { createActor, fromPromise } from '../../machines/xstate.js';
import type { SheddingLimits } from '../../src/indexes/batchWindow.js';
import { BuildSignal } from '../../src/indexes/buildSignal.js';
import type { IndexedField } from '../../src/indexes/fields.js';
import { type ChannelHandle, native } from '../../src/native/addon.js';
import { NO_LEASE } from '../../src/stores/lease.js';
import { CommitError, ShardCommitter, type ShardCommitterOptions } from '../../src/stores/shardCommitter.js';
import { errorText, isCorruption, StoreError, sqliteCode } from '../../src/stores/storeError.js';
import type { FromWriter, ReaderToWriter, ToWriter, WriterDump } from '../messages.js';
import { merge, type Observable, Subject, type Subscription } from '../rx.js';
import { stateText } from '../stateText.js';
import { type IndexChange, type ShardIndexesActor, startShardIndexes } from './indexes.js';

export interface ShardWriterOptions extends ShardCommitterOptions {
  readonly shard: number;
  readonly limits: WriterLimits;
  /** Batches and pressure from the readers of this shard's CPUs. */
  readonly readers$: Observable<ReaderToWriter>;
  /** Commands of the daemon. */
  readonly commands$: Observable<ToWriter>;
  readonly inspect?: (event: InspectionEvent) => void;
  /** Runs linger and retry; the real time when absent. */
  readonly clock?: NonNullable<ActorOptions<typeof shardWriterMachine>['clock']>;
  /** Awaited before each deed: a test holds the actor in a state with it. The daemon leaves it out. */
  readonly pace?: (deed: 'open' | 'commit' | 'close') => Promise<void>;
  /** The indexes the shard is to have (IDX-7), and how builds are ended; null: it keeps those it has. */
  readonly indexes?: WriterIndexes | null;
}

/** What a writer is told of indexes when it starts. */
export interface WriterIndexes {
  /** Of a `BuildSignal`, which others share. */
  readonly signal: SharedArrayBuffer;
  /** Null while it is not known: the shard keeps what it has. */
  readonly desired: readonly IndexedField[] | null;
  readonly shedding: SheddingLimits;
}

export interface ShardWriter {
  readonly actor: ActorRefFrom<typeof shardWriterMachine>;
  readonly indexes: ShardIndexesActor | null;
  /** What the daemon hears. Completes when the writer is closed. */
  readonly reports$: Observable<FromWriter>;
}

/** Starts a writer. Subscribe to `reports$` at once: it does not repeat. */
export function startShardWriter(options: ShardWriterOptions): ShardWriter {
  const { shard, channel } = options;
  const reports$ = new Subject<FromWriter>();
  const subscriptions: Subscription[] = [];
  let committer: ShardCommitter | null = null;
  let storedSynthetic = 0;
  /** The lease that was asked for last. */
  let leaseId = NO_LEASE;
  const waiting: Extract<ToWriter, { type: 'synthetic' }>[] = [];
  const indexes = indexesOf(options, (change, existing) =>
    reports$.next({ type: 'indexes', change, existing }),
  );

  const machine = shardWriterMachine.provide({
    actors: {
      open: fromPromise(async () => {
        if (options.pace !== undefined) await options.pace('open');
        try {
          committer = new ShardCommitter(options);
          for (const { event } of waiting.splice(0)) committer.queue(event);
          indexes?.opened(committer.indexes);
        } catch (error) {
          throw failureOf(error);
        }
      }),
      commit: fromPromise(async ({ input }) => {
        if (options.pace !== undefined) await options.pace('commit');
        // Under load one commit follows the other: messages come in between, pings above all.
        await turn();
        if (committer === null) throw failureOf(new Error(`shard ${shard} is not open`));
        try {
          const result = committer.commit(input.limits);
          storedSynthetic = result.synthetic;
          if (result.rows > 0) indexes?.stored(result.rows);
          return result;
        } catch (error) {
          throw failureOf(error);
        }
      }),
      close: fromPromise(async () => {
        if (options.pace !== undefined) await options.pace('close');
        indexes?.stop();
        committer?.close();
        committer = null;
      }),
    },
    actions: {
      announceReady: () => reports$.next({ type: 'ready' }),
      announceCommit: (_, report) => {
        if (report.rows === 0) return;
        const { rows, events, commitMs } = report;
        const checkpointFailure = committer?.takeCheckpointFailure() ?? null;
        const synthetic = storedSynthetic;
        reports$.next({ type: 'committed', rows, events, commitMs, synthetic, checkpointFailure });
      },
      announceFailure: (_, failure) => reports$.next({ type: 'failed', failure }),
      announceDrained: () =>
        reports$.next({ type: 'drained', lastSequences: committer?.lastSequences() ?? new Map() }),
      announceReadOnly: () => reports$.next({ type: 'readOnly' }),
      applyLimits: (_, limits) => native.channelLimit(channel, limits.maxBatchSize),
      grantLease: () => {
        const { rows, maxRows } = native.channelStatus(channel);
        reports$.next({ type: 'leased', id: leaseId, pressure: Math.min(rows / Math.max(maxRows, 1), 1) });
      },
    },
  });

  const actor = createActor(machine, {
    id: `writer-${shard}`,
    systemId: `writer-${shard}`,
    input: { shard, limits: options.limits },
    ...(options.inspect === undefined ? {} : { inspect: options.inspect }),
    ...(options.clock === undefined ? {} : { clock: options.clock }),
  });
  actor.subscribe({
    next: ({ value }) => indexes?.setIdle(value === 'idle'),
    complete: () => {
      indexes?.stop();
      for (const subscription of subscriptions) subscription.unsubscribe();
      reports$.next({ type: 'closed' });
      reports$.complete();
    },
  });
  const dump = (): WriterDump => {
    const { value, context } = actor.getSnapshot();
    const owed = committer?.lost ?? [];
    return {
      state: stateText(value),
      commits: context.commits,
      rows: context.rows,
      failures: context.failures,
      owed: owed.length,
      owedRanges: owed.slice(0, DUMPED_RANGES).map(({ cpu, first, last }) => ({ cpu, first, last })),
      lastSequences: committer?.lastSequences() ?? new Map(),
      indexes:
        indexes === null
          ? null
          : { state: stateText(indexes.actor.getSnapshot().value), existing: indexes.existing() },
    };
  };
  actor.start();
  subscriptions.push(
    merge(options.readers$, options.commands$).subscribe((message) => {
      switch (message.type) {
        case 'batch.available':
          actor.send(message);
          break;
        case 'pressure':
          indexes?.pressure(message.cpu, message.level);
          break;
        case 'synthetic':
          if (committer === null) waiting.push(message);
          else committer.queue(message.event);
          actor.send({ type: 'synthetic.queued' });
          break;
        case 'limits':
          actor.send({ type: 'limits.changed', limits: message.limits });
          indexes?.setLimits(message.limits);
          break;
        case 'indexes':
          indexes?.setDesired(message.desired);
          indexes?.setLimits({ shedding: message.shedding });
          break;
        case 'lease':
          leaseId = message.id;
          actor.send({ type: 'lease.requested' });
          break;
        case 'leaseReturn':
          if (message.id === leaseId) actor.send({ type: 'lease.returned' });
          break;
        case 'stop':
          actor.send({ type: 'writer.stop' });
          break;
        case 'close':
          actor.send({ type: 'writer.close' });
          break;
        case 'dump':
          reports$.next({ type: 'dumped', dump: dump() });
          break;
        case 'ping':
          reports$.next({ type: 'pong' });
          break;
      }
    }),
  );
  return { actor, indexes, reports$ };
}

function indexesOf(
  options: ShardWriterOptions,
  onChange: (change: IndexChange, existing: readonly string[]) => void,
): ShardIndexesActor | null {
  const { shard, channel, limits, indexes, clock } = options;
  if (indexes === undefined || indexes === null) return null;
  return startShardIndexes({
    shard,
    channel,
    limits: { ...limits, shedding: indexes.shedding },
    desired: indexes.desired,
    signal: new BuildSignal(indexes.signal),
    onChange,
    ...(clock === undefined ? {} : { clock }),
  });
}

/** The channel a writer takes its segments from; its room is the readers' credit (ING-42). */
export function openChannel(shard: number, limits: WriterLimits): ChannelHandle {
  return native.channelOpen(shard, limits.maxBatchSize, CHANNEL_BYTES);
}

/** Ranges a dump names; the rest is only counted. */
const DUMPED_RANGES = 20;

/** Bytes one segment may hold, whatever its number of events. */
const CHANNEL_BYTES = 16 * 1024 * 1024;

/** Plain data for the machine and for other threads. */
function failureOf(error: unknown): CommitFailure {
  if (error instanceof CommitError) {
    const lost = error.lost.map(({ cpu, first, last }) => ({ cpu, first, last }));
    return { code: error.code, message: error.message, corrupt: error.corrupt, lost };
  }
  const corrupt = isCorruption(error) || (error instanceof StoreError && error.kind !== 'io');
  return { code: sqliteCode(error) ?? 'ERR_STORE', message: errorText(error), corrupt, lost: [] };
}
