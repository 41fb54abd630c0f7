/** The stage `ranges`: a cross-type filter becomes the time ranges in which it is true (QL-112..114). */
import type { RangesHandle, RangesOptions, SamplesSource } from '../../../src/native/addon.js';
import { QueryError } from '../../../src/query/errors.js';
import type { RangesStage, SampleRangesStage, SpanRangesStage } from '../../../src/query/job.js';
import { failingWindows, SAMPLES } from '../../../src/query/sqlRanges.js';
import { memoryExceeded } from '../scratch.js';
import type { StageContext } from './context.js';

/** Rows used up in one turn. */
const SLICE_ROWS = 20_000;

/** Ranges of one filter at most: four million, in bytes. */
const MAX_RANGES_BYTES = 64 * 1024 * 1024;

/** Series listed in one turn. */
const LISTED_PER_TURN = 2000;

/** Series of one filter at most. */
export const MAX_SERIES = 200_000;

/** What a series takes in bytes: its names, its place in a tree of sums, its part of a slice of samples. */
const SERIES_BYTES = 1024;

/** The samples that the native part holds at a time, in bytes. */
const SLICE_BYTES = 1024 * 1024;

/** Memory is reserved in steps of at least this much. */
const RESERVE_STEP_BYTES = 256 * 1024;

/** `series.type` of a histogram (MET-46). */
const HISTOGRAM = 2n;

type Steps<Result> = Generator<void, Result, void>;

export function* runRanges(stage: RangesStage, context: StageContext): Steps<void> {
  const memory = new Reserve(context);
  const ranges =
    stage.store === 'metrics'
      ? yield* sampleRanges(stage, context, memory)
      : yield* spanRanges(stage, context, memory);
  memory.keep(ranges.byteLength);
  context.setRanges(stage.index, ranges);
}

function spanRanges(stage: SpanRangesStage, context: StageContext, memory: Reserve): Steps<Uint8Array> {
  const params = context.bind(stage.spans.params);
  const parts = context.connections(stage.store).map(({ slot }) => ({ slot, sql: stage.spans.sql, params }));
  return build({ parts, maxBytes: MAX_RANGES_BYTES, samples: null }, context, memory);
}

/** One series of one database. */
interface SeriesRow {
  /** Index of its connection. */
  readonly database: number;
  readonly slot: number;
  readonly hasRollups: boolean;
  readonly id: bigint;
  readonly name: string;
  /** The same for what is one series in several databases (QL-101). */
  readonly identity: string;
}

/**
 * In one snapshot of each database from the list of series on: outside of it the id of a series may become
 * another's, which the caller may not read.
 */
function* sampleRanges(stage: SampleRangesStage, context: StageContext, memory: Reserve): Steps<Uint8Array> {
  const connections = context.connections('metrics');
  try {
    context.execute(() => {
      for (const connection of connections) connection.beginSnapshot('series');
    });
    return yield* samplesOf(stage, context, memory);
  } finally {
    for (const connection of connections) connection.endSnapshot();
  }
}

function* samplesOf(stage: SampleRangesStage, context: StageContext, memory: Reserve): Steps<Uint8Array> {
  const rows = yield* listSeries(stage, context, memory);
  const { units, positions, databases } = arrange(rows, stage.unit);
  const sources: SamplesSource[] = [];
  for (const row of rows) {
    // The mean of several series says nothing of one, and one rollup nothing of another database.
    const isAlone = stage.unit === 'series' && row.hasRollups && databases.get(row.identity) === 1;
    sources.push({
      database: row.database,
      id: row.id,
      series: positions.get(row.identity) ?? 0,
      skip: isAlone ? yield* skippedWindows(stage, row, context, memory) : null,
    });
  }
  const parts = context.connections('metrics').map(({ slot }) => ({ slot, sql: SAMPLES, params: [] }));
  const { range, oldest, test } = stage;
  memory.take(SLICE_BYTES);
  const samples = { ...range, oldest, test, units, sources };
  return yield* build({ parts, maxBytes: MAX_RANGES_BYTES, samples }, context, memory);
}

/** @throws QueryError when a series is a histogram: it has no value to compare (QL-118) */
function* listSeries(stage: SampleRangesStage, context: StageContext, memory: Reserve): Steps<SeriesRow[]> {
  const found: SeriesRow[] = [];
  const params = context.bind(stage.series.params);
  for (const [database, connection] of context.connections('metrics').entries()) {
    const hasRollups = context.execute(() => holdsRollups(connection));
    const rows = connection
      .prepare(stage.series.sql)
      .raw()
      .iterate(...params);
    try {
      for (
        let row = context.execute(() => rows.next());
        !row.done;
        row = context.execute(() => rows.next())
      ) {
        const [id, type, name, labels] = row.value as [bigint, bigint, string, string];
        if (type === HISTOGRAM) throw notScalar(stage.filter, name);
        if (found.length === MAX_SERIES) throw tooManySeries(stage.filter);
        const identity = JSON.stringify([name, labels, Number(type)]);
        memory.take(SERIES_BYTES);
        if (found.length % LISTED_PER_TURN === 0) yield;
        found.push({ database, slot: connection.slot, hasRollups, id, name, identity });
      }
    } finally {
      rows.return?.();
    }
    yield;
  }
  return found;
}

/** Stores that were set aside may lack the table. */
function holdsRollups(connection: ReturnType<StageContext['connections']>[number]): boolean {
  const table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'rollups'";
  if (connection.prepare(table).get() === undefined) return false;
  return connection.prepare('SELECT 1 FROM rollups LIMIT 1').get() !== undefined;
}

/** Puts the series in the order of their units, and counts the databases that hold each. */
function arrange(
  rows: readonly SeriesRow[],
  unit: SampleRangesStage['unit'],
): {
  readonly units: readonly number[];
  readonly positions: ReadonlyMap<string, number>;
  readonly databases: ReadonlyMap<string, number>;
} {
  const databases = new Map<string, number>();
  const members = new Map<string, string[]>();
  for (const { identity, name } of rows) {
    const count = databases.get(identity) ?? 0;
    databases.set(identity, count + 1);
    if (count > 0) continue;
    const key = unit === 'all' ? '' : unit === 'name' ? name : identity;
    const list = members.get(key);
    if (list === undefined) members.set(key, [identity]);
    else list.push(identity);
  }
  const positions = new Map<string, number>();
  const units: number[] = [];
  for (const [index, identities] of [...members.values()].entries()) {
    for (const identity of identities) {
      positions.set(identity, units.length);
      units.push(index);
    }
  }
  return { units, positions, databases };
}

/** Windows of a series that its rollups show to hold no sample that passes (QL-119). */
function* skippedWindows(
  stage: SampleRangesStage,
  row: SeriesRow,
  context: StageContext,
  memory: Reserve,
): Steps<Uint8Array | null> {
  const [limit] = stage.test.numbers;
  if (limit === undefined) return null;
  const range = { from: stage.oldest, to: stage.range.to };
  const statement = failingWindows(row.id, stage.test.operator, limit, range);
  if (statement === null) return null;
  const part = { slot: row.slot, sql: statement.sql, params: context.bind(statement.params) };
  return yield* build({ parts: [part], maxBytes: MAX_RANGES_BYTES, samples: null }, context, memory);
}

function* build(options: RangesOptions, context: StageContext, memory: Reserve): Steps<Uint8Array> {
  const { native } = context;
  let counted = 0;
  const handle: RangesHandle = context.execute(() => native.rangesOpen(options));
  try {
    for (;;) {
      const slice = step(handle, context);
      // The finished set is copied.
      const bytes = slice.ranges === null ? slice.bytes : slice.bytes * 2;
      memory.take(bytes - counted);
      counted = bytes;
      if (slice.ranges !== null) return slice.ranges;
      yield;
    }
  } finally {
    native.rangesClose(handle);
  }
}

function step(handle: RangesHandle, context: StageContext): ReturnType<StageContext['native']['rangesStep']> {
  try {
    return context.execute(() => context.native.rangesStep(handle, SLICE_ROWS));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_TOO_LARGE') throw tooManyRanges();
    throw error;
  }
}

/** What a stage takes of the query memory, in steps large enough not to be felt. */
class Reserve {
  readonly #context: StageContext;
  #taken = 0;
  #reserved = 0;

  constructor(context: StageContext) {
    this.#context = context;
  }

  /** @throws QueryError `limit exceeded` when the query memory is used up */
  take(bytes: number): void {
    this.#taken += bytes;
    if (this.#taken <= this.#reserved) return;
    const more = Math.max(this.#taken - this.#reserved, RESERVE_STEP_BYTES);
    const { memory } = this.#context;
    if (!memory.reserve(more)) throw memoryExceeded(memory.limit);
    this.#reserved += more;
  }

  /** The stage is over, and holds so much still: a query may have many. */
  keep(bytes: number): void {
    this.#context.memory.give(this.#reserved - bytes);
    this.#taken = bytes;
    this.#reserved = bytes;
  }
}

function notScalar(filter: string, name: string): QueryError {
  return new QueryError(
    'X',
    'type error',
    `${filter} compares a value, but ${name} is a histogram, which has none`,
  );
}

function tooManySeries(filter: string): QueryError {
  return new QueryError(
    'X',
    'limit exceeded',
    `${filter} takes in more than ${MAX_SERIES} series; narrow it by its name or by labels`,
  );
}

function tooManyRanges(): QueryError {
  const most = MAX_RANGES_BYTES / 16;
  return new QueryError(
    'X',
    'limit exceeded',
    `a METRIC, EVENT or LOG filter changes more than ${most} times in the range; narrow SINCE and UNTIL`,
  );
}
