import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NativeAddon } from '../native/addon.js';
import { errnoOf, reasonOf } from './failure.js';
import type { IdentityStamps } from './identity.js';
import { KmsgCursor } from './kmsgCursor.js';
import { KmsgSource, openKmsgDevice } from './kmsgSource.js';
import { type Beginning, type ProcessFeed, ProcessSource } from './processSource.js';
import type { Report } from './report.js';
import { KMSG_CURSOR_FILE } from './ringFiles.js';
import type { RingSet } from './rings.js';
import type { MonotonicClock } from './tokenBucket.js';

/** What `status` says about a source. */
export type SourceState = 'running' | 'off' | 'unavailable';

/** A started source, or the reason there is none. */
export interface RunningSource {
  readonly state: SourceState;
  stop(): void;
}

type ProcessAddon = Pick<
  NativeAddon,
  'watchReadable' | 'processConnectorOpen' | 'processConnectorReceive' | 'processConnectorClose'
>;

const NOT_RUNNING = { stop: () => undefined };
const KMSG_DEVICE = '/dev/kmsg';

/** Starts reading the kernel log; where that is not permitted, one warning and no source. */
export function startKmsg(
  native: Pick<NativeAddon, 'watchReadable'>,
  directory: string,
  rings: RingSet,
  report: Report,
  enabled: boolean,
  path = KMSG_DEVICE,
): RunningSource {
  if (!enabled) return { state: 'off', ...NOT_RUNNING };
  try {
    const device = openKmsgDevice(native, path);
    // Always the first ring: recovery looks for the records there.
    const cursor = KmsgCursor.open(join(directory, KMSG_CURSOR_FILE), rings.first, kernelBootId());
    const source = new KmsgSource(device, rings.first, cursor, report);
    source.start();
    return { state: 'running', stop: () => source.stop() };
  } catch (error) {
    report.warn(`${path} cannot be read (${errnoOf(error) ?? reasonOf(error)}): no linux.kmsg events`);
    return { state: 'unavailable', ...NOT_RUNNING };
  }
}

/**
 * Starts reporting process starts and exits; where that is not permitted, one warning and no source.
 * @param beginning null: the source is off
 */
export function startProcesses(
  native: ProcessAddon,
  rings: RingSet,
  stamps: IdentityStamps,
  report: Report,
  beginning: Beginning | null,
  now: MonotonicClock,
): RunningSource {
  if (beginning === null) return { state: 'off', ...NOT_RUNNING };
  const source = new ProcessSource(rings.assign(), stamps, report, now);
  try {
    source.start(connectorFeed(native), beginning);
    return { state: 'running', stop: () => source.stop() };
  } catch (error) {
    report.warn(
      `process events cannot be read (${errnoOf(error) ?? reasonOf(error)}): no linux.process events`,
    );
    return { state: 'unavailable', ...NOT_RUNNING };
  }
}

/** Process events from the kernel's connector. */
function connectorFeed(native: ProcessAddon): ProcessFeed {
  return (ready) => {
    const fd = native.processConnectorOpen();
    const take = () => {
      const taken = native.processConnectorReceive(fd);
      // An overflow shows as an error on the descriptor, at which the event loop stops watching.
      if (taken.overruns > 0) {
        unwatch();
        unwatch = native.watchReadable(fd, () => ready(take));
      }
      return taken;
    };
    let unwatch = native.watchReadable(fd, () => ready(take));
    return () => {
      unwatch();
      native.processConnectorClose(fd);
    };
  };
}

function kernelBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
}
