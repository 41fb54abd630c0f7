/**
 * The record writer actor, of logs or of metrics: gives the machine its transactions and turns what it
 * does into messages. Runs in the store's own thread, or in a test's.
 */
import { setImmediate as turn } from 'node:timers/promises';
import {
  type RecordFailure,
  type RecordLimits,
  type RecordStore,
  recordWriterMachine,
} from '../machines/recordWriter.js';
import { createActor, fromPromise } from '../machines/xstate.js';
import { native, type ReceiverHandle } from '../src/native/addon.js';
import { DatagramSource } from '../src/stores/datagramSource.js';
import type { HeldHandles } from '../src/stores/heldHandles.js';
import { NO_LEASE } from '../src/stores/lease.js';
import { RecordCommitError, type RecordCommitter } from '../src/stores/recordCommitter.js';
import { setStoreAside } from '../src/stores/singleStore.js';
import { errorText, StoreError, sqliteCode } from '../src/stores/storeError.js';
import { type Commanded, obey, type Surroundings, surroundedBy } from './commanded.js';
import type { FromRecordWriter, RecordWriterDump, ToRecordWriter } from './messages.js';
import { Subject } from './rx.js';
import { stateText } from './stateText.js';

/** What the thread of either store is given. */
export interface RecordWriterData {
  readonly file: string;
  readonly receiver: ReceiverHandle;
  /** Bytes the receiver takes while the writer has a batch in hand. */
  readonly bufferBytes: number;
  readonly limits: RecordLimits;
  /** Names what the writer has in hand for whoever survives its thread. */
  readonly held: HeldHandles;
}

type Deed = 'open' | 'commit' | 'replace' | 'close';

export interface RecordWriterOptions
  extends RecordWriterData,
    Surroundings<typeof recordWriterMachine, ToRecordWriter, Deed> {
  readonly store: RecordStore;
  /** @throws StoreError when the file must not be written */
  readonly open: (source: DatagramSource, limits: RecordLimits) => RecordCommitter;
}

export type RecordWriter = Commanded<typeof recordWriterMachine, FromRecordWriter>;

/** Starts a writer and its receiver's thread. Subscribe to `reports$` at once: it does not repeat. */
export function startRecordWriter(options: RecordWriterOptions): RecordWriter {
  const { store, file, receiver } = options;
  const reports$ = new Subject<FromRecordWriter>();
  const source = new DatagramSource(receiver, options.held);
  const pace = async (deed: Deed) => options.pace?.(deed);
  let committer: RecordCommitter | null = null;
  /** The lease that was asked for last. */
  let leaseId = NO_LEASE;

  /** Null before the connection goes: one that cannot be closed is not used again either. */
  const closeStore = () => {
    const closing = committer;
    committer = null;
    closing?.close();
  };
  const applyLimits = ({ seriesCacheSize }: RecordLimits) => {
    if (seriesCacheSize !== null) committer?.resizeCache(seriesCacheSize);
  };
  const machine = recordWriterMachine.provide({
    actors: {
      open: fromPromise(async ({ input }) => {
        await pace('open');
        committer = attempt(() => options.open(source, input.limits));
      }),
      commit: fromPromise(async ({ input }) => {
        await pace('commit');
        // Under load one commit follows the other: messages come in between, pings above all.
        await turn();
        return attempt(() => opened(committer).commit(input.limits));
      }),
      replace: fromPromise(async ({ input }) => {
        await pace('replace');
        return attempt(() => {
          closeStore();
          return { aside: input.corrupt ? setStoreAside(file) : null };
        });
      }),
      close: fromPromise(async () => {
        await pace('close');
        source.release();
        closeStore();
      }),
    },
    actions: {
      announceReady: ({ context }) => {
        // They may have changed while the store was being opened.
        applyLimits(context.limits);
        reports$.next({ type: 'ready' });
      },
      announceCommit: ({ context }, { records, bytes, commitMs }) => {
        if (records > 0) reports$.next({ type: 'committed', records, bytes, commitMs, lost: context.lost });
      },
      announceFailure: ({ context }, failure) => {
        if (context.failures === 1) reports$.next({ type: 'failed', failure });
      },
      announceReplaced: (_, { aside }) => reports$.next({ type: 'replaced', aside }),
      announceDiscarding: (_, failure) => reports$.next({ type: 'discarding', failure }),
      announceDrained: () => reports$.next({ type: 'drained' }),
      discard: () => source.discard(),
      applyLimits: (_, limits) => applyLimits(limits),
      grantLease: () => {
        committer?.lend(leaseId);
        const pressure = Math.min(source.status.waiting / options.bufferBytes, 1);
        reports$.next({ type: 'leased', id: leaseId, pressure });
      },
    },
  });

  const actor = createActor(machine, {
    ...surroundedBy(`${store}-writer`, options),
    input: { store, limits: options.limits, bufferBytes: options.bufferBytes },
  });
  obey(actor, {
    commands$: options.commands$,
    reports$,
    dump: ({ value, context }): RecordWriterDump => {
      const { commits, records, failures, lost, replacements } = context;
      return { state: stateText(value), commits, records, failures, lost, replacements };
    },
    hear: (command) => {
      switch (command.type) {
        case 'limits':
          actor.send({ type: 'limits.changed', limits: command.limits });
          break;
        case 'lease':
          leaseId = command.id;
          actor.send({ type: 'lease.requested' });
          break;
        case 'leaseReturn':
          committer?.takeBack(command.id, command.series);
          if (command.id === leaseId) actor.send({ type: 'lease.returned' });
          break;
        case 'finish':
          actor.send({ type: 'writer.stop' });
          break;
        case 'close':
          actor.send({ type: 'writer.close' });
          break;
      }
    },
  });
  native.receiverStart(receiver, () => {
    // The receiver outlives its writer, and the last wake-up may be on its way when that closes.
    if (actor.getSnapshot().status !== 'active') return;
    actor.send({ type: 'batch.available', bytes: source.status.waiting });
  });
  return { actor, reports$ };
}

function opened(committer: RecordCommitter | null): RecordCommitter {
  if (committer === null) throw new Error('the store is not open');
  return committer;
}

/** Errors as plain data, for the machine and for other threads. */
function attempt<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw failureOf(error);
  }
}

function failureOf(error: unknown): RecordFailure {
  if (error instanceof RecordCommitError) {
    const { code, message, damage, lost } = error;
    return { code, message, damage, lost };
  }
  const kind = error instanceof StoreError ? error.kind : 'io';
  const damage = kind === 'schema' ? 'version' : kind === 'corrupt' ? 'corrupt' : 'none';
  return { code: sqliteCode(error) ?? 'ERR_STORE', message: errorText(error), damage, lost: 0 };
}
