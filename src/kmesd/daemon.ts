import { join } from 'node:path';
import { formatGuid } from '../host/guid.js';
import { resolveAdminGroups } from '../host/peerIdentity.js';
import type { NativeAddon } from '../native/addon.js';
import { Admission } from './admission.js';
import { Configuration } from './configuration.js';
import { Emitter } from './emission.js';
import { EmitServer } from './emitServer.js';
import { IdentityStamps } from './identity.js';
import type { EmitLimits } from './limits.js';
import type { KmesdOptions } from './options.js';
import type { Report } from './report.js';
import { RequestHandler } from './requestHandler.js';
import { claimRingDirectory, EMIT_SOCKET } from './ringFiles.js';
import { RingSet } from './rings.js';
import { type RunningSource, startKmsg, startProcesses } from './sources.js';
import { TokenBuckets } from './tokenBucket.js';

/** A running kmesd. */
export interface Kmesd {
  readonly socketPath: string;
  /** Stops sources and socket and lets go of the rings, which stay for the next start. */
  stop(): Promise<void>;
}

/**
 * Starts kmesd: rings first, so that nothing the sources hold is missed, the socket last.
 * Throws KmesdError when directory, rings or socket cannot be had; sources only warn.
 */
export async function startKmesd(
  native: NativeAddon,
  options: KmesdOptions,
  bootId: Uint8Array,
  report: Report,
): Promise<Kmesd> {
  const undo: (() => void | Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const socketPath = await start(native, options, bootId, report, undo);
    return { socketPath, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function start(
  native: NativeAddon,
  options: KmesdOptions,
  bootId: Uint8Array,
  report: Report,
  undo: (() => void | Promise<void>)[],
): Promise<string> {
  const directory = claimRingDirectory(native, options.directory, bootId, report);
  undo.push(() => directory.release());
  const rings = RingSet.open(native, directory, options.cpus, options.capacity, report);
  undo.push(() => rings.close());
  // Before this kmesd writes anything itself.
  const beginning = options.process
    ? { continued: rings.continued, unobservedSince: rings.newestTimestamp() }
    : null;

  const now = () => performance.now();
  const buckets = new TokenBuckets(options.maxEmitRate, now);
  const { maxEventSize, maxNestingDepth, maxEmitRate } = options;
  const limits: EmitLimits = { maxEventSize, maxNestingDepth, maxEmitRate };
  const configuration = new Configuration(limits, rings, buckets, report);
  configuration.resize(options.capacity);

  const stamps = new IdentityStamps(bootId);
  const kmsg = startKmsg(native, options.directory, rings, report, options.kmsg);
  undo.push(() => kmsg.stop());
  const processes = startProcesses(native, rings, stamps, report, beginning, now);
  undo.push(() => processes.stop());

  const wellFormed = (bytes: Uint8Array, depth: number) => native.msgpackValid(bytes, depth);
  const handler = new RequestHandler({
    emitter: new Emitter(limits, buckets, wellFormed),
    configuration,
    wellFormed,
    allowKernelPath: options.allowKernelPath,
    status: () => describe(bootId, rings, limits, { kmsg, process: processes }),
  });
  const admission = new Admission(await resolveAdminGroups(options.adminGroups, report), stamps);
  const path = join(options.directory, EMIT_SOCKET);
  const server = await EmitServer.listen({ path, native, admission, handler, rings, report });
  undo.push(() => server.close());
  return path;
}

/** The answer to `status`. */
function describe(
  bootId: Uint8Array,
  rings: RingSet,
  limits: EmitLimits,
  sources: Readonly<Record<string, RunningSource>>,
): Readonly<Record<string, unknown>> {
  return {
    pid: process.pid,
    boot_id: formatGuid(bootId),
    rings: rings.rings.map((ring) => {
      const { capacity, generation, writePos, tailPos, sequence } = ring.status();
      return { cpu: ring.cpu, capacity, generation, write_pos: writePos, tail_pos: tailPos, sequence };
    }),
    max_event_size: limits.maxEventSize,
    max_nesting_depth: limits.maxNestingDepth,
    max_emit_rate: limits.maxEmitRate,
    sources: Object.fromEntries(Object.entries(sources).map(([name, source]) => [name, source.state])),
  };
}
