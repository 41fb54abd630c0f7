/** Medians, ratios and the table of the ingest benchmark. */
import type { Sample } from './variants.js';
import { BATCH } from './workload.js';

export interface Row {
  readonly key: string;
  readonly title: string;
  readonly samples: readonly Sample[];
}

/** Stored events per second, median over the rounds. */
export function rateOf(row: Row): number {
  return median(row.samples.map(storedPerSecond));
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

const cpuPerEvent = ({ account, cpuSeconds }: Sample) => (cpuSeconds * 1e6) / account.stored;
const storedPerSecond = ({ account, seconds }: Sample) => account.stored / seconds;

const HEADINGS = [
  '',
  'variant',
  'events/s',
  'lowest',
  'highest',
  'cpu us',
  'rows/tx',
  'emitted',
  'stored',
  'lost',
  'gaps',
  'behind',
  'MiB',
];

/** A variant's figures. Counts are totals over its rounds. */
export interface Summary {
  readonly key: string;
  readonly title: string;
  /** Stored per second: median, lowest, highest. */
  readonly eventsPerSecond: readonly [number, number, number];
  /** Processor time per stored event, us; other load on the machine does not stretch it. */
  readonly cpuPerEvent: number;
  readonly rowsPerTransaction: number;
  readonly emitted: number;
  readonly stored: number;
  readonly lost: number;
  readonly gapRecords: number;
  /** Most events that were emitted and not yet stored; null where that says nothing. */
  readonly behind: number | null;
  /** Highest resident memory, bytes; shared ring mappings not counted. */
  readonly peakBytes: number;
}

export function summary({ key, title, samples }: Row): Summary {
  const sum = (value: (sample: Sample) => number) =>
    samples.reduce((total, sample) => total + value(sample), 0);
  const rates = samples.map(storedPerSecond);
  // What was overwritten before it was read is no backlog.
  const behind = samples.flatMap(({ peakBacklog, account }) => (account.lost > 0 ? [] : (peakBacklog ?? [])));
  return {
    key,
    title,
    eventsPerSecond: [median(rates), Math.min(...rates), Math.max(...rates)],
    cpuPerEvent: median(samples.map(cpuPerEvent)),
    rowsPerTransaction: median(
      samples.map(({ commits, account }) => (commits === null ? BATCH : account.stored / commits)),
    ),
    emitted: sum(({ emitted }) => emitted),
    stored: sum(({ account }) => account.stored),
    lost: sum(({ account }) => account.lost),
    gapRecords: sum(({ account }) => account.gapRecords),
    behind: behind.length === 0 ? null : Math.max(...behind),
    peakBytes: Math.max(...samples.map(({ peakBytes }) => peakBytes)),
  };
}

/** One line per variant. */
export function table(rows: readonly Row[]): string {
  const lines = rows.map((row) => {
    const figures = summary(row);
    return [
      figures.key,
      figures.title,
      ...figures.eventsPerSecond.map(count),
      figures.cpuPerEvent.toFixed(2),
      figures.rowsPerTransaction.toFixed(0),
      ...[figures.emitted, figures.stored, figures.lost, figures.gapRecords].map(String),
      figures.behind === null ? '-' : String(figures.behind),
      (figures.peakBytes / 2 ** 20).toFixed(0),
    ];
  });
  const all = [HEADINGS, ...lines];
  const widths = HEADINGS.map((_, column) => Math.max(...all.map((line) => line[column]?.length ?? 0)));
  return all
    .map((line) =>
      line
        .map((cell, column) =>
          column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  '),
    )
    .join('\n');
}

export interface Target {
  readonly text: string;
  readonly over: string;
  readonly under: string;
  readonly least: number | null;
}

/**
 * One line per ratio. A ratio is the median of the rounds' own ratios: neighbours in time see the same
 * machine, so what slows a whole round does not touch it.
 */
export function ratios(rows: readonly Row[], targets: readonly Target[]): string {
  return targets
    .flatMap(({ text, over, under, least }) => {
      const above = rows.find(({ key }) => key === over);
      const below = rows.find(({ key }) => key === under);
      if (above === undefined || below === undefined) return [];
      const pairs = above.samples.flatMap((sample, round) => {
        const other = below.samples[round];
        if (other === undefined) return [];
        return [
          {
            rate: storedPerSecond(sample) / storedPerSecond(other),
            cpu: cpuPerEvent(sample) / cpuPerEvent(other),
          },
        ];
      });
      const ratio = median(pairs.map(({ rate }) => rate));
      const cpu = median(pairs.map((pair) => pair.cpu));
      const verdict =
        least === null ? '' : `  target ${least.toFixed(1)}: ${ratio >= least ? 'met' : 'MISSED'}`;
      return [
        `${`${over}/${under}`.padEnd(6)} ${ratio.toFixed(2)}  cpu per event ${cpu.toFixed(2)}  ${text}${verdict}`,
      ];
    })
    .join('\n');
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en');
}
