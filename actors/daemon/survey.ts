/** What the daemon knows of itself at one instant: for the diagnostic dump and the debug socket. */
import type { CommitFailure, LostRange } from '../../machines/shardWriter.js';
import { indexNameOf } from '../../src/indexes/fields.js';
import type { ChannelStatus } from '../../src/native/addon.js';
import type { ActorFigures, Figures } from '../inspector/figures.js';
import type { ReaderDump, WriterDump } from '../messages.js';
import type { QueryServiceStats } from '../query/service.js';
import type { IndexSurvey } from './indexThread.js';
import type { MaintenanceSurvey } from './maintenance.js';
import type { RecordSurvey } from './recordPipeline.js';
import type { RetentionSurvey } from './retentionThread.js';
import type { RollupSurvey } from './rollupThread.js';

export interface WriterSurvey {
  readonly shard: number;
  /** Of its last commit; `ended` when its thread is over. */
  readonly health: 'good' | 'failing' | 'read-only' | 'ended';
  readonly failure: CommitFailure | null;
  /** What waits in its channel and its room, the readers' credit; null once it is closed. */
  readonly channel: ChannelStatus | null;
  /** It builds an index and does not answer meanwhile. */
  readonly isBuilding: boolean;
  /** Names of the indexes it has, the one on `timestamp` left out. */
  readonly indexes: readonly string[];
  /** A storage error of this shard is not recorded anywhere yet. */
  readonly owesStorageError: boolean;
  /**
   * Ranges whose gap records are not stored yet: their number, and the first few. By what the daemon has
   * heard when the writer does not answer.
   */
  readonly owed: number;
  readonly owedRanges: readonly LostRange[];
  /** Null when its thread does not answer: it hangs, or a commit takes long. */
  readonly dump: WriterDump | null;
}

export interface PathSurvey {
  /** Null when their thread does not answer. */
  readonly readers: readonly ReaderDump[] | null;
  readonly writers: readonly WriterSurvey[];
}

export interface DaemonSurvey extends MaintenanceSurvey {
  readonly pid: number;
  /** Null before the boot is known. */
  readonly bootId: string | null;
  /** State of the daemon's own machine. */
  readonly state: string;
  readonly upSeconds: number;
  /** Times the event path was started again in this process. */
  readonly recoveries: number;
  /** Null while there is none. */
  readonly path: PathSurvey | null;
  /** The log path and the metric path; empty before there are any. */
  readonly records: readonly RecordSurvey[];
  readonly queries: QueryServiceStats | null;
  readonly residentBytes: number;
  readonly heapBytes: number;
}

/** The survey as the debug socket tells it. */
export function figuresOf({ path, records, retention, indexes, rollups, ...daemon }: DaemonSurvey): Figures {
  return {
    daemon: {
      upSeconds: Math.floor(daemon.upSeconds),
      residentBytes: daemon.residentBytes,
      recoveries: daemon.recoveries,
      connections: daemon.queries?.connections ?? null,
      queriesRunning: daemon.queries?.running ?? null,
    },
    ...(path === null ? {} : pathFigures(path)),
    ...Object.fromEntries(records.map((record) => [`${record.store}-writer`, recordFigures(record)])),
    ...(retention === null ? {} : { retention: retentionFigures(retention) }),
    ...(indexes === null ? {} : indexFigures(indexes)),
    ...(rollups === null ? {} : rollupFigures(rollups)),
  };
}

function pathFigures({ readers, writers }: PathSurvey): Figures {
  return Object.fromEntries<ActorFigures>([
    ...(readers ?? []).map((reader) => [`reader-${reader.cpu}`, readerFigures(reader)] as const),
    ...(readers === null ? [['readers', { answers: false }] as const] : []),
    ...writers.map((writer) => [`writer-${writer.shard}`, writerFigures(writer)] as const),
  ]);
}

function recordFigures({ receiver, health, lost, dump }: RecordSurvey): ActorFigures {
  return {
    answers: dump !== null,
    health,
    waitingBytes: receiver?.waiting ?? null,
    dropped: receiver === null ? null : String(receiver.dropped),
    lost,
    ...(dump === null ? {} : { rows: dump.records, commits: dump.commits, failuresInARow: dump.failures }),
  };
}

function retentionFigures({ stores, sweeps, dump }: RetentionSurvey): ActorFigures {
  return {
    answers: dump !== null,
    sweeps,
    events: stores.event.rows,
    records: stores.log.rows,
    samples: stores.metric.rows,
    series: stores.metric.series,
    failure: dump?.lastFailure?.code ?? null,
  };
}

/** The policy, and an entry of its own for every field it knows: what it was decided, and why. */
function indexFigures({ desired, dump }: IndexSurvey): Figures {
  const policy: ActorFigures = {
    answers: dump !== null,
    desired: desired?.length ?? null,
    ...(dump === null
      ? {}
      : {
          fields: dump.fields,
          queries: dump.queries,
          decisions: dump.decisions,
          decidedAt: dump.decidedAt === null ? null : String(dump.decidedAt),
          windowHours: dump.limits.windowHours,
          createThreshold: dump.limits.createThreshold,
          dropThreshold: dump.limits.dropThreshold,
          failure: dump.lastFailure?.code ?? null,
        }),
  };
  const fields = (dump?.verdicts ?? []).map(
    ({ field, count, priority, why }) =>
      [`index:${field}`, { queries: count, priority, why, index: indexNameOf(field) }] as const,
  );
  return { 'index-advisor': policy, ...Object.fromEntries<ActorFigures>(fields) };
}

/** The advisor, and an entry of its own for every pair it knows: what it was decided, and why. */
function rollupFigures({ desired, dump }: RollupSurvey): Figures {
  const advisor: ActorFigures = {
    answers: dump !== null,
    pairs: desired.length,
    ...(dump === null
      ? {}
      : {
          decisions: dump.decisions,
          decidedAt: dump.decidedAt === null ? null : String(dump.decidedAt),
          rows: dump.rows,
          samples: dump.samples,
          pauses: dump.pauses,
          windowHours: dump.limits.windowHours,
          createThreshold: dump.limits.createThreshold,
          dropThreshold: dump.limits.dropThreshold,
          failure: dump.lastFailure?.code ?? null,
        }),
  };
  const pairs = (dump?.verdicts ?? []).map(
    ({ field, count, priority, why }) => [`rollup:${field}`, { queries: count, priority, why }] as const,
  );
  return { 'rollup-advisor': advisor, ...Object.fromEntries<ActorFigures>(pairs) };
}

function readerFigures({ drain, fill }: ReaderDump): ActorFigures {
  if (drain === null) return { answers: true };
  return {
    answers: true,
    fill,
    peakFill: drain.peakFill,
    lastSequence: String(drain.lastSequence),
    events: String(drain.events),
    gaps: String(drain.gaps),
    lost: String(drain.lost),
  };
}

function writerFigures({ channel, dump, health, owed, indexes, isBuilding }: WriterSurvey): ActorFigures {
  return {
    answers: dump !== null || isBuilding,
    health,
    waiting: channel?.rows ?? null,
    credit: channel === null ? null : Math.max(channel.maxRows - channel.rows, 0),
    blockedReaders: channel?.blocked ?? null,
    owedRanges: owed,
    indexes: indexes.length,
    indexNames: indexes.join(' '),
    building: isBuilding,
    ...(dump === null
      ? {}
      : {
          rows: dump.rows,
          commits: dump.commits,
          failuresInARow: dump.failures,
        }),
  };
}
