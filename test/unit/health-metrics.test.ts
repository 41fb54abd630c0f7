/** eventd's own health as samples, on machines of any size. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HealthMetrics, storeFiles } from '../../actors/daemon/healthMetrics.js';
import type { DaemonSurvey } from '../../actors/daemon/survey.js';
import { decode } from '../../src/host/msgpack.js';
import { MAX_DATAGRAM_BYTES } from '../../src/wire/datagramSender.js';

/** Of a daemon with so many rings, as far as it makes samples. */
function surveyOf(cpus: number): DaemonSurvey {
  const readers = Array.from({ length: cpus }, (_, cpu) => ({
    cpu,
    drain: { events: 1n, lost: 0n, gaps: 0n },
    fill: 0.5,
  }));
  return {
    path: { readers, writers: [] },
    records: [],
    retention: null,
    queries: null,
    residentBytes: 1,
    upSeconds: 1,
    recoveries: 0,
  } as unknown as DaemonSurvey;
}

test('[MET-15] [CFG-20] the figures of 256 shards and as many CPUs fit into what a datagram may hold', () => {
  const health = new HealthMetrics();
  const shards = Array.from({ length: 256 }, (_, shard) => ({ shard, file: `/nowhere/${shard}.db` }));
  for (const { shard } of shards) health.committed('event', shard, 1000, 5);
  const files = storeFiles({ LogStorePath: '/nowhere/l', MetricStorePath: '/nowhere/m' }, shards as never);
  const seen = new Set<string>();
  let samples = 0;
  for (const datagram of health.datagrams(1_777_636_801_000_000_000n, surveyOf(256), files)) {
    assert.ok(datagram.length <= MAX_DATAGRAM_BYTES, `${datagram.length} bytes`);
    for (const { name, labels } of decode(datagram) as readonly { name: string; labels: object }[]) {
      seen.add(`${name} ${JSON.stringify(labels)}`);
      samples++;
    }
  }
  // Per shard two counters, two histograms and two sizes, per ring four figures, sizes of two stores, three of the process.
  assert.deepEqual([samples, seen.size], [256 * 6 + 256 * 4 + 4 + 3, samples]);
});
