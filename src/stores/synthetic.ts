/**
 * Synthetic events (ING-67..77): made by eventd, written straight to a shard, never through KMES.
 * Their payloads are msgpack maps with the keys of STO-8.
 */
import { Encoder } from '../host/msgpack.js';

export type SyntheticType =
  | 'synthetic.startup'
  | 'synthetic.shutdown'
  | 'synthetic.gap'
  | 'synthetic.config_change'
  | 'synthetic.storage_error';

/** One synthetic row before it has a boot id. */
export interface SyntheticEvent {
  readonly type: SyntheticType;
  /** When eventd noticed, ns since the Unix epoch (ING-76). */
  readonly timestamp: bigint;
  /** A msgpack map. */
  readonly payload: Uint8Array;
}

/** Why sequences are missing (STO-8). */
export type GapCause = 'ring_loss' | 'restart' | 'commit_failure';

const encoder = new Encoder({ useBigInt64: true });

/** The encoder picks the shortest form for plain numbers only, and turns those of 2^32 and more into floats. */
function uint(value: bigint): bigint | number {
  return value < 0x1_0000_0000n ? Number(value) : value;
}

function cpuMap(sequences: ReadonlyMap<number, bigint>): Record<string, bigint | number> {
  return Object.fromEntries(
    [...sequences].sort(([a], [b]) => a - b).map(([cpu, s]) => [String(cpu), uint(s)]),
  );
}

function synthetic(type: SyntheticType, timestamp: bigint, payload: Record<string, unknown>): SyntheticEvent {
  return { type, timestamp, payload: encoder.encode(payload) };
}

/** `synthetic.startup`: eventd runs and is attached to KMES. */
export function startupEvent(
  timestamp: bigint,
  details: {
    /** Hyphenated, lower-case, without braces. */
    bootId: string;
    restart: boolean;
    shardCount: number;
    cpuCount: number;
    resumePoints: ReadonlyMap<number, bigint>;
  },
): SyntheticEvent {
  return synthetic('synthetic.startup', timestamp, {
    boot_id: details.bootId,
    restart: details.restart,
    shard_count: details.shardCount,
    resume_points: cpuMap(details.resumePoints),
    cpu_count: details.cpuCount,
  });
}

/** `synthetic.shutdown`: the last persisted sequence of every CPU. */
export function shutdownEvent(timestamp: bigint, lastSequences: ReadonlyMap<number, bigint>): SyntheticEvent {
  return synthetic('synthetic.shutdown', timestamp, { last_sequences: cpuMap(lastSequences) });
}

/** `synthetic.gap`: drain threads make their own in native code; this one is for what a failed commit lost (FAIL-5). */
export function gapEvent(
  timestamp: bigint,
  gap: {
    cpu: number;
    first: bigint;
    last: bigint;
    previousTimestamp: bigint | null;
    revealingTimestamp: bigint | null;
    cause: GapCause;
  },
): SyntheticEvent {
  return synthetic('synthetic.gap', timestamp, {
    cpu_id: gap.cpu,
    first_missing: uint(gap.first),
    last_missing: uint(gap.last),
    missing_count: uint(gap.last - gap.first + 1n),
    last_event_timestamp: gap.previousTimestamp,
    revealing_event_timestamp: gap.revealingTimestamp,
    cause: gap.cause,
  });
}

/** `synthetic.config_change`: one per setting applied at run time (CFG-4). */
export function configChangeEvent(
  timestamp: bigint,
  change: {
    key: string;
    oldValue: bigint | number | string | null;
    newValue: bigint | number | string | null;
  },
): SyntheticEvent {
  return synthetic('synthetic.config_change', timestamp, {
    key_name: change.key,
    old_value: change.oldValue,
    new_value: change.newValue,
  });
}

/** `synthetic.storage_error`: a failed write to any store (FAIL-11). */
export function storageErrorEvent(
  timestamp: bigint,
  failure: { store: 'event' | 'log' | 'metric'; shard: number | null; error: string },
): SyntheticEvent {
  return synthetic('synthetic.storage_error', timestamp, {
    store_type: failure.store,
    shard_index: failure.shard,
    error: failure.error,
  });
}
