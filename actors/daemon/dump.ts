/** The diagnostic dump (LIFE-230): one readable block, one line per part, like columns beneath each other. */
import type { ReaderDump } from '../messages.js';
import type { IndexSurvey } from './indexThread.js';
import type { RecordSurvey } from './recordPipeline.js';
import type { RetentionSurvey } from './retentionThread.js';
import type { RollupSurvey } from './rollupThread.js';
import type { DaemonSurvey, PathSurvey, WriterSurvey } from './survey.js';

/** A piece of a line: words before and after a value, which is aligned with its like on other lines. */
interface Cell {
  readonly before?: string;
  readonly value: string;
  readonly after?: string;
  /** Numbers stand to the right. */
  readonly right?: boolean;
  /** The next cell goes on in the same words. */
  readonly glued?: boolean;
}

/** The whole block, with a newline at its end, so that it can be written at once. */
export function dumpText(survey: DaemonSurvey): string {
  const { pid, bootId, state, upSeconds, recoveries, path, queries } = survey;
  const lines = [
    `eventd ${pid} boot ${bootId ?? 'unknown'}, up ${Math.floor(upSeconds)} s`,
    `  daemon: ${state}, ${counted(recoveries, 'recovery', 'recoveries')} of the event path`,
    ...(path === null ? ['  no event path'] : pathLines(path)),
    ...aligned(survey.records.map(recordCells)),
    ...(survey.retention === null ? [] : retentionLines(survey.retention)),
    ...(survey.indexes === null ? [] : indexLines(survey.indexes, path)),
    ...(survey.rollups === null ? [] : rollupLines(survey.rollups)),
    `  queries: ${queries === null ? 'no socket' : wordsOf(queries)}`,
    `  memory: ${mebibytes(survey.residentBytes)} MiB resident, ${mebibytes(survey.heapBytes)} MiB of it the main thread's heap`,
  ];
  return `${lines.join('\n')}\n`;
}

function pathLines({ readers, writers }: PathSurvey): string[] {
  return [
    ...(readers === null ? ['  readers: no answer'] : aligned(readers.map(readerCells))),
    ...aligned(writers.map(writerCells)),
    ...writers.flatMap(troubleLines),
  ];
}

function recordCells({ store, receiver, health, hasThread, dump }: RecordSurvey): Cell[] {
  return [
    { value: `  ${store} writer:`, glued: true },
    text(dump?.state ?? (hasThread ? 'no answer' : 'no thread')),
    text(health),
    number(dump?.records ?? 0, ' records'),
    number(dump?.commits ?? 0, ' commits'),
    number(receiver?.datagrams ?? 0n, ' datagrams'),
    number(receiver?.dropped ?? 0n, ' dropped'),
    number(receiver?.waiting ?? 0, ' bytes waiting'),
  ];
}

function retentionLines({ stores, sweeps, dump }: RetentionSurvey): string[] {
  const { event, log, metric } = stores;
  const deleted = `${event.rows} events, ${log.rows} log records, ${metric.rows} samples, ${metric.series} series`;
  const state = dump?.state ?? 'no answer';
  const failure = dump?.lastFailure ?? null;
  return [
    `  retention: ${state}, ${counted(sweeps, 'sweep', 'sweeps')}, deleted ${deleted}`,
    ...(failure === null ? [] : [`    retention failed: ${failure.code}: ${failure.message}`]),
  ];
}

function indexLines({ desired, dump }: IndexSurvey, path: PathSurvey | null): string[] {
  const wanted = desired === null ? 'unknown' : listed(desired.map(({ field }) => field));
  const counted = dump === null ? 'no answer' : `${dump.queries} queries by ${dump.fields} fields`;
  const failure = dump?.lastFailure ?? null;
  return [
    `  index policy: ${dump?.state ?? 'no answer'}, ${counted}, desired: ${wanted}`,
    ...(failure === null ? [] : [`    index policy failed: ${failure.code}: ${failure.message}`]),
    ...(path?.writers ?? [])
      .filter(({ indexes }) => indexes.length > 0)
      .map(({ shard, indexes }) => `    writer ${shard} has ${listed(indexes)}`),
  ];
}

function rollupLines({ desired, dump }: RollupSurvey): string[] {
  const rows = dump === null ? 'no answer' : `${dump.rows} rows of ${dump.samples} samples`;
  const failure = dump?.lastFailure ?? null;
  return [
    `  rollups: ${dump?.state ?? 'no answer'}, ${rows}, kept: ${listed(desired)}`,
    ...(failure === null ? [] : [`    rollups failed: ${failure.code}: ${failure.message}`]),
  ];
}

function listed(names: readonly string[]): string {
  return names.length === 0 ? 'none' : names.join(', ');
}

function readerCells({ cpu, state, drain, fill }: ReaderDump): Cell[] {
  const head = [name('reader', cpu), text(state)];
  if (drain === null) return [...head, text('not draining')];
  return [
    ...head,
    number(fill === null ? '-' : fill.toFixed(3), '', 'fill '),
    number(drain.lastSequence, '', 'last sequence '),
    number(drain.events, ' events'),
    number(drain.gaps, ' gaps'),
    number(drain.lost, ' lost'),
    number(drain.peakFill.toFixed(3), '', 'peak fill '),
  ];
}

function writerCells({ shard, health, channel, owed, dump, isBuilding }: WriterSurvey): Cell[] {
  const head = [
    name('writer', shard),
    text(dump?.state ?? (isBuilding ? 'building an index' : 'no answer')),
    text(health),
    channel === null ? text('channel closed') : number(`${channel.rows}/${channel.maxRows}`, ' rows waiting'),
    number(channel?.blocked ?? 0, ' readers blocked'),
  ];
  if (dump === null) return head;
  const stored = [...dump.lastSequences].map(([cpu, sequence]) => ` cpu ${cpu} ${sequence}`).join();
  return [
    ...head,
    { ...number(dump.rows, ' rows in'), glued: true },
    number(dump.commits, ' commits'),
    number(dump.failures, ' failed in a row'),
    text(`stored up to${stored === '' ? ' nothing' : stored}`),
    number(owed, ' lost ranges to record'),
  ];
}

/** What a line of the table has no room for: why a writer fails, and what it still has to record. */
function troubleLines({ shard, failure, owesStorageError, owed, owedRanges }: WriterSurvey): string[] {
  const lead = `    writer ${shard}`;
  const lines: string[] = [];
  if (failure !== null) lines.push(`${lead} failed: ${failure.code}: ${failure.message}`);
  if (owed > 0) {
    const ranges = owedRanges.map(({ cpu, first, last }) => `cpu ${cpu} ${first}-${last}`);
    const more = owed - ranges.length;
    lines.push(`${lead} lost, not yet recorded: ${ranges.join(', ')}${more > 0 ? `, and ${more} more` : ''}`);
  }
  if (owesStorageError) lines.push(`${lead}: a storage error waits to be recorded`);
  return lines;
}

function name(kind: string, index: number): Cell {
  return { value: `  ${kind} ${index}:` };
}

function text(value: string): Cell {
  return { value };
}

function number(value: bigint | number | string, after: string, before = ''): Cell {
  return { before, value: String(value), after, right: true };
}

/** Rows of cells as lines; the values of one column are as wide as its widest. */
function aligned(rows: readonly (readonly Cell[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach(({ value }, column) => {
      widths[column] = Math.max(widths[column] ?? 0, value.length);
    });
  return rows.map((row) =>
    row
      .map(({ before = '', value, after = '', right = false, glued = false }, column) => {
        const width = widths[column] ?? 0;
        const separator = glued || column === 0 || column === row.length - 1 ? '' : ',';
        const padded = right ? value.padStart(width) : value;
        const cell = `${before}${padded}${after}${separator}`;
        // The comma belongs to the word before it; what fills a text column comes after both.
        return right ? cell : cell.padEnd(width + separator.length);
      })
      .join(' ')
      .trimEnd(),
  );
}

function wordsOf(counts: object): string {
  return Object.entries(counts)
    .map(([key, count]) => `${key} ${count}`)
    .join(', ');
}

function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 1_048_576);
}
