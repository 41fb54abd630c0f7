/**
 * Every setting of eventd in one table: the source of types, defaults, ranges, checks and of the
 * seed hive (CFG-1..50).
 */

interface SettingBase {
  /** Requirement that defines it; own keys have none. */
  readonly id: string | null;
  readonly unit: string;
  readonly meaning: string;
  /** False = a change needs a restart (CFG-71). */
  readonly live: boolean;
}

/** An absolute path in a REG_SZ. Optional ones are off when absent. */
export interface PathSetting extends SettingBase {
  readonly type: 'path';
  readonly required: boolean;
  /** Longest path in bytes; Unix socket addresses end at 107 (CFG-17). */
  readonly maxBytes: number;
  readonly default: null;
}

export interface DwordSetting extends SettingBase {
  readonly type: 'dword';
  readonly default: number;
  readonly min: number;
  readonly max: number;
}

export interface QwordSetting extends SettingBase {
  readonly type: 'qword';
  readonly default: bigint;
  readonly min: bigint;
  readonly max: bigint;
}

/** A REG_MULTI_SZ of names. */
export interface NamesSetting extends SettingBase {
  readonly type: 'names';
  readonly default: readonly string[];
  readonly max: number;
}

export type Setting = PathSetting | DwordSetting | QwordSetting | NamesSetting;

const MAX_SOCKET_PATH_BYTES = 107;
const MAX_PATH_BYTES = 4095;
const MAX_UINT64 = 0xffff_ffff_ffff_ffffn;

function store(id: string, meaning: string) {
  return {
    type: 'path',
    id,
    required: true,
    maxBytes: MAX_PATH_BYTES,
    default: null,
    unit: '',
    meaning,
    live: false,
  } as const;
}

function socket(id: string, meaning: string) {
  return { ...store(id, meaning), maxBytes: MAX_SOCKET_PATH_BYTES } as const;
}

function dword(
  id: string | null,
  standard: number,
  range: readonly [min: number, max: number],
  unit: string,
  meaning: string,
  live = true,
): DwordSetting {
  return { type: 'dword', id, default: standard, min: range[0], max: range[1], unit, meaning, live };
}

function bytes(id: string, meaning: string): QwordSetting {
  return { type: 'qword', id, default: 0n, min: 0n, max: MAX_UINT64, unit: 'bytes', meaning, live: true };
}

/** The table, by registry value name below `Machine\System\eventd`. */
export const SETTINGS = {
  EventStorePath: store('CFG-11', 'directory of the event shards and eventd-meta.db'),
  LogStorePath: store('CFG-12', 'file of the log database'),
  MetricStorePath: store('CFG-13', 'file of the metric database'),
  QuerySocketPath: socket('CFG-14', 'stream socket for queries'),
  LogSocketPath: socket('CFG-15', 'datagram socket for logs'),
  MetricSocketPath: socket('CFG-16', 'datagram socket for metrics'),
  StorageShards: dword('CFG-20', 0, [0, 256], 'shards', 'event shard databases; 0 = one per CPU', false),
  MaxBatchSize: dword('CFG-21', 10000, [100, 100000], 'events', 'largest event transaction'),
  MaxBatchLatencyMs: dword('CFG-22', 100, [10, 5000], 'ms', 'from the first event of a batch to its commit'),
  LogMaxBatchSize: dword('CFG-23', 5000, [100, 100000], 'records', 'largest log transaction'),
  LogMaxBatchLatencyMs: dword(
    'CFG-24',
    500,
    [10, 5000],
    'ms',
    'from the first log record of a batch to its commit',
  ),
  MetricMaxBatchSize: dword('CFG-25', 5000, [100, 100000], 'samples', 'largest metric transaction'),
  MetricMaxBatchLatencyMs: dword('CFG-26', 1000, [10, 5000], 'ms', 'until a metric batch is committed'),
  AdaptiveIndexWindowHours: dword('CFG-27', 24, [1, 168], 'h', 'rolling window of the index counters'),
  AdaptiveIndexPolicyIntervalMinutes: dword(
    'CFG-28',
    60,
    [60, 1440],
    'min',
    'between index and rollup decisions',
  ),
  AdaptiveIndexCreateThreshold: dword(
    'CFG-29',
    100,
    [10, 10000],
    'queries',
    'in the window, that add an index',
  ),
  AdaptiveIndexDropThreshold: dword('CFG-30', 10, [1, 1000], 'queries', 'below which an index is removed'),
  SheddingWindowSeconds: dword('CFG-31', 30, [10, 300], 's', 'sliding window of graduated shedding'),
  SheddingBatchPercent: dword(
    'CFG-32',
    75,
    [50, 100],
    '%',
    'of batches above 75 % of MaxBatchSize that start shedding',
  ),
  EmergencySheddingBufferPercent: dword(
    'CFG-33',
    75,
    [50, 95],
    '%',
    'ring fill that triggers emergency shedding',
  ),
  AdaptiveRollupWindowHours: dword('CFG-34', 48, [1, 168], 'h', 'rolling window of the rollup counters'),
  AdaptiveRollupCreateThreshold: dword(
    'CFG-35',
    50,
    [10, 10000],
    'queries',
    'in the window, that start a rollup',
  ),
  AdaptiveRollupDropThreshold: dword('CFG-36', 5, [1, 1000], 'queries', 'below which a rollup is removed'),
  MetricSeriesCacheSize: dword('CFG-37', 50000, [1000, 1000000], 'series', 'entries of the series cache'),
  EventRetentionDays: dword('CFG-38', 30, [1, 3650], 'days', 'maximum age of events'),
  EventRetentionMaxBytes: bytes('CFG-39', 'limit of all event shards together; 0 = none'),
  LogRetentionDays: dword('CFG-40', 14, [1, 3650], 'days', 'maximum age of logs'),
  LogRetentionMaxBytes: bytes('CFG-41', 'limit of the log database; 0 = none'),
  MetricRetentionDays: dword('CFG-42', 90, [1, 3650], 'days', 'maximum age of samples'),
  MetricRetentionMaxBytes: bytes('CFG-43', 'limit of the metric database; 0 = none'),
  RetentionCheckIntervalMinutes: dword(
    'CFG-44',
    60,
    [1, 1440],
    'min',
    'between retention runs of all stores',
  ),
  QueryTimeoutMs: dword('CFG-45', 30000, [1000, 300000], 'ms', 'longest execution of a query'),
  MaxConcurrentQueries: dword('CFG-46', 128, [1, 4096], 'queries', 'running at once, streams included'),
  MaxStreamingQueries: dword('CFG-47', 64, [1, 1024], 'queries', 'streams running at once'),
  MaxQueryMessageBytes: dword('CFG-48', 65536, [1024, 16777216], 'bytes', 'largest query message'),
  CrossTypeWindowMs: dword('CFG-49', 15000, [1000, 300000], 'ms', 'window of event and log existence checks'),
  CrossTypeMaxLookbackSeconds: dword(
    'CFG-50',
    604800,
    [3600, 2592000],
    's',
    'longest range a cross-type filter may scan',
  ),
  DebugSocketPath: {
    type: 'path',
    id: null,
    required: false,
    maxBytes: MAX_SOCKET_PATH_BYTES,
    default: null,
    unit: '',
    meaning: 'stream socket of the inspector; absent = off',
    live: false,
  },
  HealthMetricIntervalSeconds: dword(
    null,
    15,
    [0, 3600],
    's',
    "between samples of eventd's own health; 0 = off",
  ),
  QueryMemoryBytes: dword(
    null,
    268435456,
    [16777216, 2147483648],
    'bytes',
    'memory that all running queries share for intermediate results',
  ),
  AdminGroups: {
    type: 'names',
    id: 'HOST-67',
    default: [],
    max: 256,
    unit: '',
    meaning: 'Linux groups (names or ids) whose members count as administrators',
    live: true,
  },
} as const satisfies Record<string, Setting>;

type Table = typeof SETTINGS;

/** Name of a setting. */
export type SettingName = keyof Table;

type ValueOf<S> = S extends { type: 'path'; required: true }
  ? string
  : S extends { type: 'path' }
    ? string | null
    : S extends { type: 'qword' }
      ? bigint
      : S extends { type: 'names' }
        ? readonly string[]
        : number;

/** All settings with a valid value each. */
export type Settings = { readonly [Name in SettingName]: ValueOf<Table[Name]> };

/** What a setting can hold. */
export type SettingValue = string | number | bigint | readonly string[] | null;

/** Names in table order. */
export const SETTING_NAMES = Object.keys(SETTINGS) as readonly SettingName[];

/** The table's entry, seen through the common type. */
export function settingOf(name: SettingName): Setting {
  return SETTINGS[name];
}

/** Drop thresholds that must stay below their create thresholds (CFG-6). */
export const THRESHOLD_PAIRS = [
  ['AdaptiveIndexCreateThreshold', 'AdaptiveIndexDropThreshold'],
  ['AdaptiveRollupCreateThreshold', 'AdaptiveRollupDropThreshold'],
] as const satisfies readonly (readonly [SettingName, SettingName])[];
