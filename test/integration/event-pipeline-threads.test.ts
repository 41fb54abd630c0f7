/** The event path when one of its threads is gone: what the others did still counts. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { EventPipeline, type PipelineReport } from '../../actors/daemon/eventPipeline.js';
import { attachAllRings, ringFileName } from '../../src/host/kmes.js';
import { native, type ProducerHandle } from '../../src/native/addon.js';
import { openEventStore } from '../../src/stores/eventStore.js';
import { shutdownEvent } from '../../src/stores/synthetic.js';
import { eventually } from '../fixtures/eventd.js';

const BOOT_ID = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
const SHARDS = 2;
const DEADLINE_MS = 10_000;

interface World {
  readonly pipeline: EventPipeline;
  readonly reports: PipelineReport[];
  /** The pipeline's threads in the order of their start: the writers by shard, then the readers. */
  readonly workers: Worker[];
  readonly producers: readonly ProducerHandle[];
  rows(shard: number, type: string): number;
}

function worldFor(t: TestContext): World {
  const directory = mkdtempSync(join(tmpdir(), 'eventd-pipeline-'));
  const rings = join(directory, 'kmes');
  mkdirSync(rings);
  const producers = Array.from({ length: SHARDS }, (_, cpu) =>
    native.producerCreate(join(rings, ringFileName(cpu)), cpu, 1 << 16),
  );
  const { shards } = openEventStore(join(directory, 'events'), SHARDS);
  const kmes = { kind: 'embedded', directory: rings } as const;
  const pipeline = new EventPipeline({
    shards,
    shardCount: SHARDS,
    kmes,
    rings: attachAllRings(kmes, BOOT_ID),
    resume: { restart: false, cpus: new Map(), unreadable: [] },
    bootId: BOOT_ID,
    limits: { maxBatchSize: 1000, maxBatchLatencyMs: 100 },
    emergencyPercent: 75,
  });
  const reports: PipelineReport[] = [];
  pipeline.reports$.subscribe((report) => reports.push(report));
  const workers: Worker[] = [];
  const collect = (worker: Worker) => workers.push(worker);
  process.on('worker', collect);
  t.after(async () => {
    process.off('worker', collect);
    await pipeline.release();
    for (const producer of producers) native.producerClose(producer);
    rmSync(directory, { recursive: true, force: true });
  });
  return {
    pipeline,
    reports,
    workers,
    producers,
    rows: (shard, type) => {
      const db = new Database(shards[shard]?.file, { readonly: true });
      try {
        return Number(db.prepare('SELECT count(*) FROM events WHERE event_type = ?').pluck().get(type));
      } finally {
        db.close();
      }
    },
  };
}

test('[LIFE-204] [LIFE-206] [ING-71] a writer whose thread is gone keeps no other from its last commit, and the shutdown record finds a shard', async (t) => {
  const { pipeline, reports, workers, producers, rows } = worldFor(t);
  await pipeline.start();
  for (const producer of producers) {
    native.producerEmit(producer, 0, { type: Buffer.from('test.one'), payload: new Uint8Array() }, null);
  }
  await eventually('both stored', () => rows(0, 'test.one') + rows(1, 'test.one') === 2);

  await workers[0]?.terminate();
  await eventually('the end reported', () =>
    reports.some((report) => report.type === 'threadFailed' && report.thread === 'writer-0'),
  );
  await pipeline.drainRings(DEADLINE_MS);
  const last = new Map<number, bigint>();
  await assert.rejects(pipeline.commitAll(DEADLINE_MS, last), /shard 0: thread writer-0 ended with code 1/);
  assert.deepEqual(last, new Map([[1, 1n]]), 'what the other writer has stored is known');
  await pipeline.recordShutdown(shutdownEvent(1n, last), DEADLINE_MS);
  await pipeline.closeStores(DEADLINE_MS);
  assert.equal(rows(1, 'synthetic.shutdown'), 1);
});

test('[LIFE-130] a start that loses a thread says which one and why', async (t) => {
  const { pipeline, workers } = worldFor(t);
  const start = pipeline.start();
  const ended = assert.rejects(start, /^Error: thread writer-1 ended/);
  const writer = await eventually('the threads begun', () => workers[1]);
  await writer.terminate();
  await ended;
});
