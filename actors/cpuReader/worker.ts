/**
 * Entry of the readers' thread: one reader actor per CPU, a port to every shard writer. It loads while
 * the writers open their shards, and reads from the daemon's `start` on.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { attachRing, type KmesSource } from '../../src/host/kmes.js';
import type { ChannelHandle, RingHandle } from '../../src/native/addon.js';
import type { CpuResume } from '../../src/stores/resume.js';
import { InspectionFeed } from '../inspector/feed.js';
import type { FromReaders, ReaderToWriter, ToReaders } from '../messages.js';
import { linkPort } from '../streams.js';
import { type CpuReader, startCpuReader } from './cpuReader.js';

export interface CpuReadersThreadData {
  readonly kmes: KmesSource;
  /** 16 bytes: the boot that the resume points are of. */
  readonly bootId: Uint8Array;
  readonly emergencyPercent: number;
  readonly shards: readonly {
    readonly shard: number;
    readonly channel: ChannelHandle;
    readonly port: MessagePort;
    readonly building?: SharedArrayBuffer | null;
  }[];
  readonly cpus: readonly {
    readonly cpu: number;
    readonly ring: RingHandle;
    readonly resume: CpuResume;
    readonly shards: readonly number[];
  }[];
}

if (parentPort === null) throw new Error('cpuReader/worker.js runs as a worker thread only');
const data = workerData as CpuReadersThreadData;
const daemon = linkPort<ToReaders, FromReaders>(parentPort);
const writers = new Map(
  data.shards.map(({ shard, channel, port, building }) => {
    const link = linkPort<never, ReaderToWriter>(port);
    return [shard, { shard, channel, send: link.send, close: link.close, building: building ?? null }];
  }),
);
const feed = new InspectionFeed('readers', (message) => daemon.send({ type: 'inspection', message }));

let readers: readonly CpuReader[] = [];

function end(): void {
  for (const writer of writers.values()) writer.close();
  daemon.close();
}

function start(): void {
  readers = data.cpus.map(({ cpu, ring, resume, shards }) => {
    const reader = startCpuReader({
      cpu,
      ring,
      resume,
      shards: shards.flatMap((shard) => writers.get(shard) ?? []),
      emergencyPercent: data.emergencyPercent,
      attach: (number) => attachRing(data.kmes, number, data.bootId),
    });
    feed.watch(reader.actor);
    return reader;
  });
  let open = readers.length;
  for (const { reports$ } of readers) {
    reports$.subscribe({
      next: (report) => daemon.send(report),
      complete: () => {
        if (--open > 0) return;
        // The feed tells of an actor's end after everybody else has heard of it.
        queueMicrotask(end);
      },
    });
  }
  daemon.send({ type: 'ready' });
}

daemon.messages$.subscribe((message) => {
  switch (message.type) {
    case 'start':
      start();
      break;
    case 'stop':
      // Stopped before it was started: nothing is open that could end.
      if (readers.length === 0) end();
      for (const { actor } of readers) actor.send({ type: 'reader.stop' });
      break;
    case 'emergency':
      for (const { setEmergency } of readers) setEmergency(message.percent);
      break;
    case 'inspect':
      feed.enable(message.on);
      break;
    case 'dump':
      daemon.send({ type: 'dumped', dump: readers.map(({ dump }) => dump()) });
      break;
    case 'ping':
      daemon.send({ type: 'pong' });
      break;
  }
});
