/** The whole way: a load generator fills the rings, the daemon's event path with all its threads stores them. */
import { EventPipeline } from '../../actors/daemon/eventPipeline.js';
import { attachAllRings, type KmesSource } from '../../src/host/kmes.js';
import { native } from '../../src/native/addon.js';
import { openEventStore } from '../../src/stores/eventStore.js';
import { BOOT_ID, type Emitted, EVENT_BYTES, emitEvents, LIMITS } from './workload.js';

export interface WholeWayOptions {
  readonly directory: string;
  readonly ringDirectory: string;
  /** Rings, and as many shards. */
  readonly rings: number;
  /** Data bytes of each ring. */
  readonly capacity: number;
  /** For all rings together. */
  readonly events: number;
  /** Per second for all rings together; 0 = as fast as possible. */
  readonly rate: number;
}

export interface WholeWayResult {
  /** From the start of the load generator to the last commit. */
  readonly seconds: number;
  readonly emitted: Emitted;
  readonly commits: number;
  /** Most bytes ever waiting in the rings and behind them, as a share of what the rings hold. */
  readonly peakBacklog: number;
}

const DEADLINE_MS = 60_000;
const SAMPLE_MS = 5;

export async function storeTheWholeWay(options: WholeWayOptions): Promise<WholeWayResult> {
  const { directory, ringDirectory, rings: count, capacity, events, rate } = options;
  const { shards } = openEventStore(directory, count);
  const kmes: KmesSource = { kind: 'embedded', directory: ringDirectory };
  const rings = attachAllRings(kmes);
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
  let stored = 0;
  let commits = 0;
  let lastCommit = 0;
  let peakBytes = 0;
  const failures: string[] = [];
  let emitting = true;
  const sample = () => {
    // A drain thread closes its ring when it has finished.
    if (!emitting) return;
    const written = rings.reduce((sum, { ring }) => sum + Number(native.ringStatus(ring).writePos), 0);
    peakBytes = Math.max(peakBytes, written - stored * EVENT_BYTES);
  };
  pipeline.reports$.subscribe((report) => {
    if (report.type === 'commit') {
      sample();
      stored += report.events;
      commits++;
      lastCommit = performance.now();
    } else if (report.type === 'threadFailed' || report.type === 'commitFailed') {
      failures.push(JSON.stringify(report));
    }
  });
  await pipeline.start();
  const sampler = setInterval(sample, SAMPLE_MS);
  const started = performance.now();
  const emitted = await emitEvents({ directory: ringDirectory, rings: count, events, rate });
  emitting = false;
  clearInterval(sampler);
  await pipeline.drainRings(DEADLINE_MS);
  await pipeline.commitAll(DEADLINE_MS);
  await pipeline.closeStores(DEADLINE_MS);
  await pipeline.release();
  if (failures.length > 0) throw new Error(failures.join('; '));
  const seconds = (lastCommit - started) / 1000;
  return { seconds, emitted, commits, peakBacklog: peakBytes / (capacity * count) };
}
