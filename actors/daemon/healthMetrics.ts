/**
 * eventd's own health as metrics named `eventd.*`. Counters begin at zero with the process, as counters
 * do (MET-6). What they mean is in docs/health-metrics.md.
 */
import { statSync } from 'node:fs';
import type { Settings } from '../../src/registry/settings.js';
import type { ShardPlan } from '../../src/stores/eventStore.js';
import { DATAGRAM_BYTES } from '../../src/wire/datagramSender.js';
import { RecordQueue } from '../../src/wire/recordQueue.js';
import { encodeSample, type Histogram, type Labels, type Sample } from '../../src/wire/recordSender.js';
import type { DaemonSurvey } from './survey.js';

/** Upper bounds of `eventd.commit.seconds` and `eventd.commit.rows`. */
const COMMIT_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const COMMIT_ROWS = [1, 10, 100, 500, 1000, 5000, 10_000, 50_000, 100_000];

/** A database whose size is told. */
export interface StoreFile {
  readonly labels: Labels;
  readonly path: string;
}

/** The databases of all stores. */
export function storeFiles(
  { LogStorePath, MetricStorePath }: Pick<Settings, 'LogStorePath' | 'MetricStorePath'>,
  shards: readonly ShardPlan[],
): StoreFile[] {
  return [
    ...shards.map(({ shard, file }) => ({ labels: { store: 'event', shard: String(shard) }, path: file })),
    { labels: { store: 'log' }, path: LogStorePath },
    { labels: { store: 'metric' }, path: MetricStorePath },
  ];
}

/** What one writer has committed since the start. */
class Commits {
  rows = 0;
  failed = 0;
  readonly seconds = new Distribution(COMMIT_SECONDS);
  readonly sizes = new Distribution(COMMIT_ROWS);
}

/** Cumulative counts (MET-8). */
class Distribution {
  readonly #counts: number[];
  #total = 0;
  #sum = 0;

  constructor(readonly boundaries: readonly number[]) {
    this.#counts = boundaries.map(() => 0);
  }

  observe(value: number): void {
    this.#total++;
    this.#sum += value;
    for (const [i, bound] of this.boundaries.entries())
      if (value <= bound) this.#counts[i] = (this.#counts[i] ?? 0) + 1;
  }

  get value(): Histogram {
    return {
      boundaries: this.boundaries,
      counts: [...this.#counts],
      totalCount: this.#total,
      sum: this.#sum,
    };
  }
}

export class HealthMetrics {
  readonly #commits = new Map<string, { readonly labels: Labels; readonly commits: Commits }>();

  /** A commit of a writer. `shard` is null for the log and metric stores. */
  committed(store: 'event' | 'log' | 'metric', shard: number | null, rows: number, ms: number): void {
    const commits = this.#of(store, shard);
    commits.rows += rows;
    commits.seconds.observe(ms / 1000);
    commits.sizes.observe(rows);
  }

  /** A commit of a shard that failed. */
  failed(shard: number): void {
    this.#of('event', shard).failed++;
  }

  #of(store: 'event' | 'log' | 'metric', shard: number | null): Commits {
    const key = `${store} ${shard}`;
    let entry = this.#commits.get(key);
    if (entry === undefined) {
      entry = {
        labels: { store, ...(shard === null ? {} : { shard: String(shard) }) },
        commits: new Commits(),
      };
      this.#commits.set(key, entry);
    }
    return entry.commits;
  }

  /**
   * Everything as datagrams of samples (MET-15), all of one time: with a hundred CPUs it is more than one may
   * hold. Each is valid until the next is taken.
   */
  *datagrams(timestamp: bigint, survey: DaemonSurvey, files: readonly StoreFile[]): Generator<Uint8Array> {
    const queue = new RecordQueue(Number.POSITIVE_INFINITY);
    const samples = [
      ...this.#commitSamples(),
      ...pathSamples(survey),
      ...recordSamples(survey),
      ...retentionSamples(survey),
      ...files.flatMap(sizeSamples),
      gauge('eventd.memory.bytes', survey.residentBytes),
      gauge('eventd.uptime.seconds', survey.upSeconds),
      counter('eventd.recoveries.total', survey.recoveries),
    ];
    for (const sample of samples) queue.push(encodeSample({ ...sample, timestamp }));
    for (let next = queue.peek(DATAGRAM_BYTES); next !== null; next = queue.peek(DATAGRAM_BYTES)) {
      yield next.datagram;
      queue.drop(next.records);
    }
  }

  #commitSamples(): Sample[] {
    return [...this.#commits.values()].flatMap(({ labels, commits }) => [
      counter('eventd.stored.total', commits.rows, labels),
      ...(labels.shard === undefined ? [] : [counter('eventd.commits.failed.total', commits.failed, labels)]),
      histogram('eventd.commit.seconds', commits.seconds.value, labels),
      histogram('eventd.commit.rows', commits.sizes.value, labels),
    ]);
  }
}

function pathSamples({ path, queries }: DaemonSurvey): Sample[] {
  const readers = (path?.readers ?? []).flatMap(({ cpu, drain, fill }) => {
    const labels = { cpu: String(cpu) };
    return [
      ...(fill === null ? [] : [gauge('eventd.ring.fill', fill, labels)]),
      ...(drain === null
        ? []
        : [
            counter('eventd.ring.events.total', Number(drain.events), labels),
            counter('eventd.events.lost.total', Number(drain.lost), labels),
            counter('eventd.gaps.total', Number(drain.gaps), labels),
          ]),
    ];
  });
  const asked =
    queries === null
      ? []
      : [
          gauge('eventd.queries.running', queries.running),
          gauge('eventd.queries.connections', queries.connections),
          counter('eventd.queries.refused.total', queries.refused),
          counter('eventd.queries.failed.total', queries.failed),
          counter('eventd.queries.delivered.total', queries.delivered),
        ];
  return [...readers, ...asked];
}

function recordSamples({ records }: DaemonSurvey): Sample[] {
  return records.flatMap(({ store, receiver, lost }) => [
    counter('eventd.records.lost.total', lost, { store }),
    ...(receiver === null
      ? []
      : [
          counter('eventd.datagrams.received.total', Number(receiver.datagrams), { store }),
          counter('eventd.datagrams.dropped.total', Number(receiver.dropped), { store }),
          counter('eventd.datagrams.truncated.total', Number(receiver.truncated), { store }),
          gauge('eventd.datagrams.waiting.bytes', receiver.waiting, { store }),
        ]),
  ]);
}

function retentionSamples({ retention }: DaemonSurvey): Sample[] {
  if (retention === null) return [];
  return [
    counter('eventd.retention.sweeps.total', retention.sweeps),
    ...Object.entries(retention.stores).flatMap(([store, { rows, usedBytes }]) => [
      counter('eventd.retention.deleted.total', rows, { store }),
      ...(usedBytes === null ? [] : [gauge('eventd.retention.used.bytes', Number(usedBytes), { store })]),
    ]),
  ];
}

function sizeSamples({ labels, path }: StoreFile): Sample[] {
  return [
    ...sizeOf('eventd.store.bytes', path, labels),
    ...sizeOf('eventd.wal.bytes', `${path}-wal`, labels),
  ];
}

/** Nothing where the disk does not answer: that is for the writer to tell. */
function sizeOf(name: string, path: string, labels: Labels): Sample[] {
  try {
    return [gauge(name, statSync(path, { throwIfNoEntry: false })?.size ?? 0, labels)];
  } catch {
    return [];
  }
}

function counter(name: string, value: number, labels: Labels = {}): Sample {
  return { type: 'counter', name, value, labels };
}

function gauge(name: string, value: number, labels: Labels = {}): Sample {
  return { type: 'gauge', name, value, labels };
}

function histogram(name: string, value: Histogram, labels: Labels): Sample {
  return { type: 'histogram', name, value, labels };
}
