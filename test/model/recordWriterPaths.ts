/** What can happen to a record writer, and the paths of its machine that follow from it. */
import type { AnyMachineSnapshot } from 'xstate';
import { type RecordLimits, recordWriterMachine } from '../../machines/recordWriter.js';
import { BUFFER_BYTES } from './recordWorld.js';
import { type ModelEvent, pathsOf, type Step } from './walk.js';

export const DONE = 'xstate.done.actor.0.recordWriter';
export const ERROR = 'xstate.error.actor.0.recordWriter';

export const failure = (damage: string, code = 'SQLITE_X') => ({ code, message: 'x', damage, lost: 1 });
const NOT_CLOSED = 'ERR_NOT_CLOSED';

/** Everything the world can do to a writer. */
function worldEvents(limits: RecordLimits, lingerMs: number): readonly ModelEvent[] {
  const report = (more: boolean, finished = false) => ({
    records: 1,
    bytes: 1,
    commitMs: 1,
    more,
    finished,
    // With the rest of a batch in hand there is nothing to wait for.
    lingerMs: more ? 0 : lingerMs,
  });
  return [
    { type: 'batch.available', bytes: 3 },
    { type: 'batch.available', bytes: BUFFER_BYTES / 2 },
    { type: 'limits.changed', limits: { ...limits, seriesCacheSize: 2000 } },
    { type: 'lease.requested' },
    { type: 'lease.returned' },
    { type: 'writer.stop' },
    { type: 'writer.close' },
    { type: `${DONE}.recovering` },
    ...['none', 'corrupt', 'version'].map((damage) => ({
      type: `${ERROR}.recovering`,
      error: failure(damage),
    })),
    ...['committing', 'draining'].flatMap((state) => [
      { type: `${DONE}.${state}`, output: report(false) },
      { type: `${DONE}.${state}`, output: report(true) },
      ...['none', 'gone', 'corrupt'].map((damage) => ({
        type: `${ERROR}.${state}`,
        error: failure(damage),
      })),
    ]),
    { type: `${DONE}.draining`, output: report(false, true) },
    { type: `${DONE}.replacing`, output: { aside: null } },
    { type: `${DONE}.replacing`, output: { aside: 'x' } },
    { type: `${ERROR}.replacing`, error: failure('none', NOT_CLOSED) },
    { type: `${DONE}.closing` },
    { type: `${ERROR}.closing`, error: failure('none') },
    { type: 'xstate.after.linger.recordWriter.batching' },
    { type: 'xstate.after.retry.recordWriter.degraded' },
    { type: 'xstate.after.leaseBound.recordWriter.yielding' },
  ];
}

/** Only what the writer's present state can be told: a promise of another state cannot settle. */
function possible(events: readonly ModelEvent[], state: AnyMachineSnapshot): ModelEvent[] {
  const value = String(state.value);
  const { file, lastFailure, arrived, stopping, closing, failures, replacements } = state.context;
  const { leaseWanted, leased } = state.context;
  return events.filter(({ type, bytes, output }) => {
    // What has been said once changes nothing when it is said again.
    if (type === 'batch.available' && arrived) return false;
    if (type === 'writer.stop' && stopping) return false;
    if (type === 'writer.close' && closing) return false;
    if (type === 'limits.changed' && (stopping || failures + replacements > 0)) return false;
    if (type === 'lease.returned') return leaseWanted || leased;
    // One sweeper, which asks once at a time, and is stopped before the writers are.
    if (type === 'lease.requested') {
      if (leaseWanted || leased || stopping || replacements > 0) return false;
      return failures === 0 ? ['idle', 'committing'].includes(value) : failures < 2 && value === 'degraded';
    }
    // Only an open connection can fail to close, and only once.
    if (type === `${ERROR}.closing` && file !== 'open') return false;
    if (type === `${ERROR}.replacing` && file === 'gone' && lastFailure?.code === NOT_CLOSED) return false;
    if (type === `${DONE}.replacing`) {
      const { aside } = output as { aside: string | null };
      return value === 'replacing' && (aside !== null) === (file === 'corrupt');
    }
    if (type.startsWith('xstate.')) return type.endsWith(`.${value}`);
    // Elsewhere the number of bytes decides nothing.
    return type !== 'batch.available' || Number(bytes) === 3 || value === 'batching';
  });
}

/** Every path of a writer with these limits; `lingerMs` is what its commits report. */
export function walksOf(limits: RecordLimits, lingerMs: number): Step[][] {
  const failing = ({ type }: ModelEvent): boolean => type.startsWith(ERROR);
  const events = worldEvents(limits, lingerMs).filter(
    (event) => !isLease(event) && (lingerMs === 0 || !failing(event)),
  );
  return pathsFrom(events, limits);
}

/** Paths on which retention asks for its turn, with what bears upon it. */
export function leaseWalksOf(limits: RecordLimits): Step[][] {
  const events = worldEvents(limits, 0).filter((event) => {
    const { type, bytes, error } = event;
    if (type === 'batch.available') return bytes === 3;
    if (type.startsWith(ERROR))
      return type.endsWith('.committing') && (error as { damage: string }).damage === 'none';
    return isLease(event) || type.startsWith(DONE) || type === 'writer.stop' || type.endsWith('.degraded');
  });
  return pathsFrom(events, limits).filter((path) => path.some(({ event }) => isLease(event)));
}

function isLease({ type }: ModelEvent): boolean {
  return type.startsWith('lease.') || type.endsWith('.yielding');
}

function pathsFrom(events: readonly ModelEvent[], limits: RecordLimits): Step[][] {
  return pathsOf(recordWriterMachine, {
    input: { store: 'log', limits, bufferBytes: BUFFER_BYTES },
    events: (state) => possible(events, state),
    project: ({ context }) => {
      const {
        file,
        arrived,
        stopping,
        closing,
        failures,
        finalFailures,
        replacements,
        leaseWanted,
        leased,
        lingerMs: linger,
      } = context;
      return [
        file,
        arrived,
        stopping,
        closing,
        failures > 0,
        finalFailures,
        replacements > 0,
        leaseWanted,
        leased,
        linger > 0,
        file === 'gone' && context.lastFailure?.code === NOT_CLOSED,
      ];
    },
  });
}
