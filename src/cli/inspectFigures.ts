/** The key figures of an actor in words: what an engineer asks first about a reader, a writer, the daemon. */
import type { ActorView, FigureValues } from './inspectModel.js';

/** A value with its unit, and whether it asks for attention. */
export interface Figure {
  readonly text: string;
  readonly alarming: boolean;
}

/** One column: made from the figures, or left out where they do not tell. */
type Column = (figures: FigureValues) => Figure | null;

/** Shown of an actor that has no figures: context numbers, most telling first. */
const TELLING = ['shard', 'cpu', 'rows', 'commits', 'records', 'failures', 'gaps', 'lost'];

const GROUPED = new Intl.NumberFormat('en-US');
/** Ring fill at which events may soon be overwritten. */
const HIGH_FILL = 0.75;

const READER: readonly Column[] = [
  percent('fill', 'fill', HIGH_FILL),
  percent('peakFill', 'peak', HIGH_FILL),
  count('lastSequence', 'seq', ''),
  rate('eventsPerSecond', 'events/s'),
  trouble('gaps', 'gaps'),
  trouble('lost', 'lost'),
];

const WRITER: readonly Column[] = [
  count('rows', '', 'rows'),
  count('commits', 'in', 'commits'),
  rate('rowsPerSecond', 'rows/s'),
  count('credit', 'credit', ''),
  count('waiting', 'waiting', ''),
  trouble('blockedReaders', 'readers blocked'),
  (figures) => (figures.building === true ? { text: 'building an index', alarming: false } : null),
  trouble('failuresInARow', 'failed in a row'),
  trouble('owedRanges', 'lost ranges owed'),
  health,
];

/** The log writer and the metric writer. */
const RECORD_WRITER: readonly Column[] = [
  count('rows', '', 'rows'),
  count('commits', 'in', 'commits'),
  count('waitingBytes', 'waiting', 'bytes'),
  trouble('dropped', 'datagrams dropped'),
  trouble('lost', 'records lost'),
  trouble('failuresInARow', 'failed in a row'),
  health,
];

/** What it has deleted since the start. */
const RETENTION: readonly Column[] = [
  count('sweeps', '', 'sweeps'),
  count('events', '', 'events'),
  count('records', '', 'log records'),
  count('samples', '', 'samples deleted'),
  word('failure', 'failed:'),
];

/** What it has counted, and how many indexes there are to be. */
const INDEX_ADVISOR: readonly Column[] = [
  count('desired', '', 'indexes desired'),
  count('queries', '', 'queries'),
  count('fields', 'by', 'fields'),
  word('failure', 'failed:'),
];

/** What it keeps, and has computed since the start. */
const ROLLUPS: readonly Column[] = [
  count('pairs', '', 'pairs'),
  count('rows', '', 'rows'),
  count('samples', 'of', 'samples'),
  count('pauses', '', 'pauses'),
  word('failure', 'failed:'),
];

const DAEMON: readonly Column[] = [
  (figures) =>
    typeof figures.upSeconds === 'number'
      ? { text: `up ${duration(figures.upSeconds)}`, alarming: false }
      : null,
  (figures) =>
    typeof figures.residentBytes === 'number'
      ? { text: `${GROUPED.format(Math.round(figures.residentBytes / 1_048_576))} MiB`, alarming: false }
      : null,
  count('queriesRunning', '', 'queries running'),
  trouble('recoveries', 'recoveries'),
];

const COLUMNS: Readonly<Record<string, readonly Column[]>> = {
  daemon: DAEMON,
  reader: READER,
  writer: WRITER,
  'log-writer': RECORD_WRITER,
  'metric-writer': RECORD_WRITER,
  retention: RETENTION,
  'rollup-advisor': ROLLUPS,
  'index-advisor': INDEX_ADVISOR,
};

/** What `reader-0` and `reader-1` have in common, and `querySession:7` and `querySession:8`. */
export function kindOf(name: string): string {
  return name.replace(/[-:]\d+$/, '');
}

/** The figures of an actor, in columns that are the same for all actors of its kind; null is a gap. */
export function figuresOf(actor: ActorView, figures: FigureValues | undefined): readonly (Figure | null)[] {
  if (figures?.answers === false) return [{ text: 'no answer', alarming: true }];
  if (figures !== undefined) {
    const columns = COLUMNS[kindOf(actor.name)];
    if (columns !== undefined) return columns.map((column) => column(figures));
  }
  return TELLING.flatMap((key) => {
    const value = actor.numbers.find(([name]) => name === key)?.[1];
    return value === undefined ? [] : [{ text: `${key} ${value}`, alarming: false }];
  });
}

function count(key: string, before: string, after: string): Column {
  return (figures) => {
    const value = grouped(figures[key]);
    return value === null ? null : { text: `${before} ${value} ${after}`.trim(), alarming: false };
  };
}

/** Nothing is said of good health. */
function health(figures: FigureValues): Figure | null {
  if (figures.health === undefined || figures.health === 'good') return null;
  return { text: String(figures.health), alarming: true };
}

/** A rate of nothing is no news. */
function rate(key: string, unit: string): Column {
  return (figures) => {
    const value = grouped(figures[key]);
    return value === null || value === '0' ? null : { text: `${value} ${unit}`, alarming: false };
  };
}

/** Something of which there should be none. */
function trouble(key: string, what: string): Column {
  return (figures) => {
    const value = grouped(figures[key]);
    return value === null || value === '0' ? null : { text: `${value} ${what}`, alarming: true };
  };
}

/** A word of trouble, where there is one. */
function word(key: string, before: string): Column {
  return (figures) =>
    typeof figures[key] === 'string' ? { text: `${before} ${figures[key]}`, alarming: true } : null;
}

function percent(key: string, label: string, high: number): Column {
  return (figures) => {
    const share = figures[key];
    if (typeof share !== 'number') return null;
    // A ring that holds one event is not empty.
    const text = share > 0 && share < 0.01 ? '<1' : String(Math.round(share * 100));
    return { text: `${label} ${text} %`, alarming: share >= high };
  };
}

function grouped(value: FigureValues[string] | undefined): string | null {
  if (typeof value === 'number') return Number.isFinite(value) ? GROUPED.format(value) : null;
  return typeof value === 'string' && /^\d{1,20}$/.test(value) ? GROUPED.format(BigInt(value)) : null;
}

/** `42 s`, `3 min 12 s`, `5 h 3 min`, `12 d 4 h`. */
function duration(seconds: number): string {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}
