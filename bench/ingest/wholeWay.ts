/** The whole way: a load generator fills the rings, the daemon's event path with all its threads stores them. */
import { EventPipeline } from '../../actors/daemon/eventPipeline.js';
import { attachAllRings, type KmesSource } from '../../src/host/kmes.js';
import { native } from '../../src/native/addon.js';
import { openEventStore } from '../../src/stores/eventStore.js';
import { type Elapsed, startWatch } from './stopwatch.js';
import { BOOT_ID, type Emitted, EVENT_BYTES, emitEvents, LIMITS } from './workload.js';

export interface WholeWayOptions {
  readonly directory: string;
  readonly ringDirectory: string;
  /** Rings, and as many shards. */
  readonly rings: number;
  /** For all rings together. */
  readonly events: number;
  /** Per second for all rings together; 0 = as fast as possible. */
  readonly rate: number;
}

/** Measured from the start of the load generator, whose processor time is its own, to the last commit. */
export interface WholeWayResult extends Elapsed {
  readonly emitted: Emitted;
  readonly commits: number;
  /** Most events ever emitted but not yet stored. */
  readonly peakBacklog: number;
}

const DEADLINE_MS = 60_000;
const SAMPLE_MS = 5;

export async function storeTheWholeWay(options: WholeWayOptions): Promise<WholeWayResult> {
  const { directory, ringDirectory, rings: count, events, rate } = options;
  const { shards } = openEventStore(directory, count);
  const kmes: KmesSource = { kind: 'embedded', directory: ringDirectory };
  const rings = attachAllRings(kmes, BOOT_ID);
  const pipeline = new EventPipeline({
    shards,
    shardCount: count,
    kmes,
    rings,
    resume: { restart: false, cpus: new Map(), unreadable: [] },
    bootId: BOOT_ID,
    limits: LIMITS,
    emergencyPercent: 75,
  });
  let watch = startWatch();
  let lastCommit = watch();
  let stored = 0;
  let commits = 0;
  let peakBacklog = 0;
  const failures: string[] = [];
  let emitting = true;
  const sample = () => {
    // A drain thread closes its ring when it has finished.
    if (!emitting) return;
    const written = rings.reduce((sum, { ring }) => sum + Number(native.ringStatus(ring).writePos), 0);
    peakBacklog = Math.max(peakBacklog, Math.round(written / EVENT_BYTES) - stored);
  };
  pipeline.reports$.subscribe((report) => {
    if (report.type === 'commit') {
      sample();
      stored += report.events;
      commits++;
      lastCommit = watch();
    } else if (report.type === 'threadFailed' || report.type === 'commitFailed') {
      failures.push(JSON.stringify(report));
    }
  });
  await pipeline.start();
  watch = startWatch();
  const sampler = setInterval(sample, SAMPLE_MS);
  const emitted = await emitEvents({ directory: ringDirectory, rings: count, events, rate });
  emitting = false;
  clearInterval(sampler);
  await pipeline.drainRings(DEADLINE_MS);
  await pipeline.commitAll(DEADLINE_MS);
  await pipeline.closeStores(DEADLINE_MS);
  await pipeline.release();
  if (failures.length > 0) throw new Error(failures.join('; '));
  return { ...lastCommit, emitted, commits, peakBacklog };
}
