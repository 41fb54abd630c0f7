/** Settings in the shape the actors take them in, and the event record of a change. */
import type { AdvisorLimits } from '../../machines/indexAdvisor.js';
import type { RecordLimits } from '../../machines/recordWriter.js';
import type { RetentionLimits } from '../../machines/retentionSweeper.js';
import type { WriterLimits } from '../../machines/shardWriter.js';
import type { SheddingLimits } from '../../src/indexes/batchWindow.js';
import type { Settings, SettingValue } from '../../src/registry/settings.js';
import type { QueryLimits } from '../query/service.js';
import type { RollupSettings } from '../rollupAdvisor/messages.js';

export function writerLimits({ MaxBatchSize, MaxBatchLatencyMs }: Settings): WriterLimits {
  return { maxBatchSize: MaxBatchSize, maxBatchLatencyMs: MaxBatchLatencyMs };
}

/** CFG-27..30. */
export function advisorLimits(settings: Settings): AdvisorLimits {
  return {
    windowHours: settings.AdaptiveIndexWindowHours,
    intervalMinutes: settings.AdaptiveIndexPolicyIntervalMinutes,
    createThreshold: settings.AdaptiveIndexCreateThreshold,
    dropThreshold: settings.AdaptiveIndexDropThreshold,
  };
}

/** After its end a window waits for late batches this long, ms, beside the time a batch may take (ROL-19). */
const LATE_BATCHES_MS = 5000;

/** CFG-28, CFG-34..36, and what bears on the computation. */
export function rollupSettings(settings: Settings): RollupSettings {
  return {
    policy: {
      windowHours: settings.AdaptiveRollupWindowHours,
      intervalMinutes: settings.AdaptiveIndexPolicyIntervalMinutes,
      createThreshold: settings.AdaptiveRollupCreateThreshold,
      dropThreshold: settings.AdaptiveRollupDropThreshold,
    },
    computation: {
      completionDelayNs: BigInt(settings.MetricMaxBatchLatencyMs + LATE_BATCHES_MS) * 1_000_000n,
      retentionDays: settings.MetricRetentionDays,
      sizeLimited: settings.MetricRetentionMaxBytes > 0n,
    },
  };
}

/** CFG-31, CFG-32. */
export function sheddingLimits({ SheddingWindowSeconds, SheddingBatchPercent }: Settings): SheddingLimits {
  return { windowSeconds: SheddingWindowSeconds, batchPercent: SheddingBatchPercent };
}

export function queryLimits(settings: Settings): QueryLimits {
  return {
    maxConcurrentQueries: settings.MaxConcurrentQueries,
    maxStreamingQueries: settings.MaxStreamingQueries,
    maxQueryMessageBytes: settings.MaxQueryMessageBytes,
    queryTimeoutMs: settings.QueryTimeoutMs,
    crossTypeWindowMs: settings.CrossTypeWindowMs,
    crossTypeMaxLookbackSeconds: settings.CrossTypeMaxLookbackSeconds,
    queryMemoryBytes: settings.QueryMemoryBytes,
  };
}

export function logLimits(settings: Settings): RecordLimits {
  return {
    maxBatchSize: settings.LogMaxBatchSize,
    maxBatchLatencyMs: settings.LogMaxBatchLatencyMs,
    seriesCacheSize: null,
  };
}

export function metricLimits(settings: Settings): RecordLimits {
  return {
    maxBatchSize: settings.MetricMaxBatchSize,
    maxBatchLatencyMs: settings.MetricMaxBatchLatencyMs,
    seriesCacheSize: settings.MetricSeriesCacheSize,
  };
}

/** CFG-38..44. */
export function retentionLimits(settings: Settings): RetentionLimits {
  return {
    intervalMinutes: settings.RetentionCheckIntervalMinutes,
    event: { days: settings.EventRetentionDays, maxBytes: settings.EventRetentionMaxBytes },
    log: { days: settings.LogRetentionDays, maxBytes: settings.LogRetentionMaxBytes },
    metric: { days: settings.MetricRetentionDays, maxBytes: settings.MetricRetentionMaxBytes },
  };
}

/** A setting as a config_change payload shows it (STO-8). */
export function recorded(value: SettingValue): bigint | number | string | null {
  return typeof value === 'object' && value !== null ? value.join(',') : value;
}
