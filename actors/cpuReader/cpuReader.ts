/**
 * The ring reader actor: gives the machine its native drain thread and its streams to the writers.
 * All readers share one thread (worker.ts); the reading itself is a native thread per ring (ING-8).
 */

import type { ActorOptions, ActorRefFrom, InspectionEvent } from 'xstate';
import {
  type CpuReaderEvent,
  type CpuReaderOutput,
  cpuReaderMachine,
  type DrainCommand,
  type PressureLevel,
} from '../../machines/cpuReader.js';
import { createActor, fromCallback, fromPromise } from '../../machines/xstate.js';
import { BuildSignal } from '../../src/indexes/buildSignal.js';
import {
  type ChannelHandle,
  type DrainEvent,
  type DrainHandle,
  native,
  type RingHandle,
  type RingInfo,
} from '../../src/native/addon.js';
import { type CpuResume, NOTHING_SEEN } from '../../src/stores/resume.js';
import type { FromReaders, ReaderDump, ReaderToWriter } from '../messages.js';
import { type Observable, Subject } from '../rx.js';
import { stateText } from '../stateText.js';
import { BuildWatch } from './buildWatch.js';

/** Ring fill in percent at which index builds have to yield (IDX-15). */
export const ELEVATED_PERCENT = 25;

export interface CpuReaderOptions {
  readonly cpu: number;
  /** Mapped by the daemon while it attached to every ring; the drain thread owns it from now on. */
  readonly ring: RingHandle;
  readonly resume: CpuResume | Promise<CpuResume>;
  /** The CPU's shards in round-robin order, with their channels and the streams to their writers. */
  readonly shards: readonly {
    readonly shard: number;
    readonly channel: ChannelHandle;
    send(message: ReaderToWriter): void;
    /** Of the shard's `BuildSignal`; null or absent where indexes are not managed. */
    readonly building?: SharedArrayBuffer | null;
  }[];
  readonly emergencyPercent: number;
  /** Attaches to the CPU's current ring again. */
  attach(cpu: number): RingInfo | Promise<RingInfo>;
  readonly inspect?: (event: InspectionEvent) => void;
  /** Runs the pauses between attempts to attach; the real time when absent. */
  readonly clock?: NonNullable<ActorOptions<typeof cpuReaderMachine>['clock']>;
}

export interface CpuReader {
  readonly actor: ActorRefFrom<typeof cpuReaderMachine>;
  /** Losses as they are found, and the end. Completes with the reader. */
  readonly reports$: Observable<FromReaders>;
  dump(): ReaderDump;
  setEmergency(percent: number): void;
}

const LEVELS: readonly PressureLevel[] = ['normal', 'elevated', 'emergency'];

/** Starts a reader. Subscribe to `reports$` at once: it does not repeat. */
export function startCpuReader(options: CpuReaderOptions): CpuReader {
  const { cpu, shards } = options;
  const reports$ = new Subject<FromReaders>();
  const builds = shards.map(({ channel, building }) =>
    building === undefined || building === null ? null : new BuildWatch(channel, new BuildSignal(building)),
  );
  let drain: DrainHandle | null = null;
  let ring = options.ring;
  let resume = NOTHING_SEEN;
  let emergencyPercent = options.emergencyPercent;

  const machine = cpuReaderMachine.provide({
    actors: {
      recover: fromPromise<void, { cpu: number }>(async () => {
        resume = await options.resume;
      }),
      drain: fromCallback<DrainCommand, unknown>(({ sendBack, receive }) => {
        const running = native.drainStart(
          {
            ring: options.ring,
            cpu,
            channels: shards.map(({ channel }) => channel),
            lastSequence: resume.sequence,
            lastTimestamp: resume.timestamp,
            covered: resume.covered,
            elevatedPercent: ELEVATED_PERCENT,
            emergencyPercent,
          },
          (event) => sendBack(ringEvent(event)),
        );
        drain = running;
        receive((command) => {
          if (command.type === 'drain.finish') native.drainFinish(running);
          else {
            ring = command.ring as RingHandle;
            handOver(running, ring);
          }
        });
        return () => {
          drain = null;
          native.drainStop(running);
        };
      }),
      attach: fromPromise(async ({ input, signal }) => {
        const { ring } = await options.attach(input.cpu);
        // The reader was stopped meanwhile: nobody takes the ring over any more.
        if (signal.aborted) native.ringClose(ring);
        return { ring };
      }),
    },
    actions: {
      forwardAvailable: (_, { index, halfFull }) => {
        shards[index]?.send({ type: 'batch.available', halfFull });
        builds[index]?.arrived();
      },
      forwardPressure: (_, { level, fill }) => {
        for (const { send } of shards) send({ type: 'pressure', cpu, level, fill });
        if (level !== 'normal') for (const build of builds) build?.pressed();
      },
      reportLoss: (_, { type, ...detail }) => reports$.next({ type: 'loss', cpu, what: type, detail }),
      reportRegressed: (_, { newest, known }) => reports$.next({ type: 'regressed', cpu, newest, known }),
      reportAttachFailure: (_, detail) =>
        reports$.next({ type: 'loss', cpu, what: 'ring.attachFailed', detail }),
    },
  });

  const actor = createActor(machine, {
    id: `reader-${cpu}`,
    systemId: `reader-${cpu}`,
    input: { cpu, shards: shards.map(({ shard }) => shard) },
    ...(options.inspect === undefined ? {} : { inspect: options.inspect }),
    ...(options.clock === undefined ? {} : { clock: options.clock }),
  });
  actor.subscribe({
    complete: () => {
      for (const build of builds) build?.close();
      reports$.next({ type: 'finished', cpu, output: actor.getSnapshot().output as CpuReaderOutput });
      reports$.complete();
    },
  });
  actor.start();
  return {
    actor,
    reports$,
    dump: () => {
      const status = drain === null ? null : native.drainStatus(drain);
      return {
        cpu,
        state: stateText(actor.getSnapshot().value),
        drain: status,
        fill: status === null ? null : fillOf(ring, status.readPos),
      };
    },
    setEmergency: (percent) => {
      emergencyPercent = percent;
      if (drain !== null) native.drainLimits(drain, ELEVATED_PERCENT, percent);
    },
  };
}

/** Share of the ring that is not read yet; null when the drain thread has closed it. */
function fillOf(ring: RingHandle, readPos: bigint): number | null {
  try {
    const { writePos, capacity } = native.ringStatus(ring);
    // The writer may have lapped the reader, and the two positions are not of one instant.
    return Math.min(Math.max(Number(writePos - readPos) / capacity, 0), 1);
  } catch {
    return null;
  }
}

/** The drain thread owns the ring from now on, unless it refuses it. */
function handOver(drain: DrainHandle, ring: RingHandle): void {
  try {
    native.drainReattach(drain, ring);
  } catch (error) {
    try {
      native.ringClose(ring);
    } catch {
      // A stale handle; that is what the first error says.
    }
    throw error;
  }
}

/** What the drain thread says, in the machine's words. */
function ringEvent(event: DrainEvent): CpuReaderEvent {
  switch (event.type) {
    case 'pressure':
      return { type: 'ring.pressure', level: LEVELS[event.level] ?? 'normal', fill: event.fill };
    case 'generation':
      return { type: 'ring.replaced', lastSequence: event.lastSequence };
    case 'available':
      return { type: 'ring.available', index: event.index, halfFull: event.halfFull };
    case 'idle':
      return { type: 'ring.idle' };
    case 'throttled':
      return { type: 'ring.throttled', index: event.index };
    case 'resumed':
      return { type: 'ring.resumed', index: event.index };
    case 'lapped':
      return { type: 'ring.lapped', from: event.from, to: event.to };
    case 'corrupt':
      return { type: 'ring.corrupt', from: event.from, to: event.to };
    case 'gap':
      return { type: 'ring.gap', first: event.first, last: event.last };
    case 'regressed':
      return { type: 'ring.regressed', newest: event.newest, known: event.known };
    case 'reattached':
      return { type: 'ring.reattached', generation: event.generation, capacity: event.capacity };
    case 'finished':
      return { type: 'ring.finished', lastSequence: event.lastSequence };
  }
}
