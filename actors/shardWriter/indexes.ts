/**
 * The actor of one shard's indexes: lives in the writer's thread, works on the writer's connection, and
 * only while the writer has nothing to do or the pressure asks for it (IDX-10..27).
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { ActorOptions, ActorRefFrom, InspectionEvent } from 'xstate';
import type { PressureLevel } from '../../machines/cpuReader.js';
import {
  type IndexFailure,
  type ShardIndexesEvent,
  shardIndexesMachine,
} from '../../machines/shardIndexes.js';
import { createActor, fromPromise } from '../../machines/xstate.js';
import { BatchWindow, type SheddingLimits } from '../../src/indexes/batchWindow.js';
import type { BuildSignal } from '../../src/indexes/buildSignal.js';
import type { IndexedField } from '../../src/indexes/fields.js';
import type { ShardIndexes } from '../../src/indexes/shardIndexes.js';
import { type ChannelHandle, native } from '../../src/native/addon.js';
import { errorText, sqliteCode } from '../../src/stores/storeError.js';

/** Live settings of a shard's indexes (CFG-21, CFG-22, CFG-31, CFG-32). */
export interface IndexLimits {
  readonly maxBatchSize: number;
  readonly maxBatchLatencyMs: number;
  readonly shedding: SheddingLimits;
}

/** What became of an index, for the daemon's log. */
export interface IndexChange {
  readonly kind: 'built' | 'dropped' | 'shed' | 'yielded' | 'failed';
  /** Name of the index; null where none is known. */
  readonly index: string | null;
  readonly ms: number;
  readonly failure: IndexFailure | null;
}

/** A shard's indexes at one instant. */
export interface IndexesDump {
  readonly state: string;
  /** Names of the indexes it has, the one on `timestamp` left out. */
  readonly existing: readonly string[];
}

export interface ShardIndexesOptions {
  readonly shard: number;
  readonly channel: ChannelHandle;
  readonly limits: IndexLimits;
  readonly desired: readonly IndexedField[] | null;
  readonly signal: BuildSignal;
  readonly onChange: (change: IndexChange, existing: readonly string[]) => void;
  readonly inspect?: (event: InspectionEvent) => void;
  /** Runs waits and windows; the real time when absent. */
  readonly clock?: NonNullable<ActorOptions<typeof shardIndexesMachine>['clock']>;
  /** Of a monotonic clock, ms; the real one when absent. */
  readonly nowMs?: () => number;
  /** Awaited before each deed: a test holds the actor in a state with it. The daemon leaves it out. */
  readonly pace?: (deed: 'build' | 'shed') => Promise<void>;
}

export interface ShardIndexesActor {
  readonly actor: ActorRefFrom<typeof shardIndexesMachine>;
  /** The writer has opened its shard. */
  opened(indexes: ShardIndexes): void;
  setDesired(fields: readonly IndexedField[] | null): void;
  setLimits(limits: Partial<IndexLimits>): void;
  /** The writer has nothing to store, or has. */
  setIdle(idle: boolean): void;
  /** A batch was stored: the one moment at which graduated shedding is judged (IDX-21). */
  stored(rows: number): void;
  pressure(cpu: number, level: PressureLevel): void;
  existing(): readonly string[];
  /** The writer goes: nothing touches its connection any more. */
  stop(): void;
}

export function startShardIndexes(options: ShardIndexesOptions): ShardIndexesActor {
  const { shard, channel, signal, onChange, nowMs = () => performance.now() } = options;
  const window = new BatchWindow();
  let { limits, desired } = options;
  let indexes: ShardIndexes | null = null;
  let idle = false;
  const existing = () => indexes?.existing.map(({ name }) => name) ?? [];
  const next = () => (desired === null ? null : (indexes?.next(desired) ?? null));
  const differs = () => next() !== null;
  const tell = (
    kind: IndexChange['kind'],
    index: string | null,
    since: number,
    failure: IndexFailure | null,
  ) => onChange({ kind, index, ms: performance.now() - since, failure }, existing());

  const machine = shardIndexesMachine.provide({
    actors: {
      build: fromPromise(async ({ input: { patienceMs }, signal: abort }) => {
        await options.pace?.('build');
        await turn();
        const step = next();
        if (indexes === null || step === null) return { result: 'done', differs: false };
        const isQuiet = () => !abort.aborted && native.channelStatus(channel).rows === 0;
        const began = performance.now();
        try {
          const result = indexes.converge(step, signal, patienceMs, isQuiet);
          if (result === 'done') tell(step.kind === 'drop' ? 'dropped' : 'built', step.index, began, null);
          else if (result !== 'disturbed') tell('yielded', step.index, began, null);
          return { result, differs: differs() };
        } catch (error) {
          const failure = failureOf(error);
          tell('failed', step.index, began, failure);
          throw failure;
        }
      }),
      shed: fromPromise(async ({ input: { all }, signal: abort }) => {
        await options.pace?.('shed');
        await turn();
        // Another one has its place, or the writer is gone.
        if (abort.aborted) return { differs: differs() };
        const began = performance.now();
        window.clear();
        try {
          for (const { name } of indexes?.shed(desired ?? [], all) ?? []) tell('shed', name, began, null);
        } catch (error) {
          const failure = failureOf(error);
          tell('failed', null, began, failure);
          throw failure;
        }
        return { differs: differs() };
      }),
    },
    // Told where it happened, with the name of the index.
    actions: { announceFailure: () => undefined },
  });
  const actor = createActor(machine, {
    id: `indexes-${shard}`,
    systemId: `indexes-${shard}`,
    input: { limits: machineLimits(limits) },
    ...(options.inspect === undefined ? {} : { inspect: options.inspect }),
    ...(options.clock === undefined ? {} : { clock: options.clock }),
  });
  actor.start();

  const send = (event: ShardIndexesEvent) => {
    if (actor.getSnapshot().status === 'active') actor.send(event);
  };
  const compare = () => {
    const now = differs();
    if (now !== actor.getSnapshot().context.differs) send({ type: 'desired.changed', differs: now });
  };
  return {
    actor,
    existing,
    opened: (opened) => {
      indexes = opened;
      compare();
    },
    setDesired: (fields) => {
      desired = fields;
      compare();
    },
    setLimits: (changed) => {
      limits = { ...limits, ...changed };
      send({ type: 'limits.changed', limits: machineLimits(limits) });
    },
    setIdle: (now) => {
      if (now === idle) return;
      idle = now;
      send({ type: now ? 'writer.idle' : 'writer.busy' });
    },
    stored: (rows) => {
      const now = nowMs();
      const oversized = window.observe(rows, limits.maxBatchSize, now, limits.shedding);
      const lasting = window.isLasting(now, limits.shedding);
      // A small batch that changes nothing is no news.
      if (oversized || lasting) send({ type: 'batch.stored', oversized, lasting });
    },
    pressure: (cpu, level) => send({ type: 'ring.pressure', cpu, level }),
    stop: () => {
      indexes = null;
      send({ type: 'indexes.stop' });
    },
  };
}

function machineLimits({ maxBatchLatencyMs, shedding }: IndexLimits) {
  return { maxBatchLatencyMs, sheddingWindowSeconds: shedding.windowSeconds };
}

/** Plain data for the machine and for other threads. */
function failureOf(error: unknown): IndexFailure {
  return { code: sqliteCode(error) ?? 'ERR_INDEX', message: errorText(error) };
}
