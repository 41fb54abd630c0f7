/** Medians, ratios and the table of the ingest benchmark. */
import type { Sample } from './variants.js';

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
  'ring',
  'MiB',
];

/** One line per variant; counts are totals over the rounds, `ring` and `MiB` the highest of them. */
export function table(rows: readonly Row[]): string {
  const sum = (row: Row, value: (sample: Sample) => number) =>
    String(row.samples.reduce((total, sample) => total + value(sample), 0));
  const lines = rows.map((row) => {
    const rates = row.samples.map(storedPerSecond);
    const backlog = row.samples.flatMap(({ peakBacklog }) => peakBacklog ?? []);
    return [
      row.key,
      row.title,
      count(rateOf(row)),
      count(Math.min(...rates)),
      count(Math.max(...rates)),
      sum(row, ({ emitted }) => emitted),
      sum(row, ({ account }) => account.stored),
      sum(row, ({ account }) => account.lost),
      sum(row, ({ account }) => account.gapRecords),
      backlog.length === 0 ? '-' : `${Math.round(Math.max(...backlog) * 100)} %`,
      (Math.max(...row.samples.map(({ peakBytes }) => peakBytes)) / 2 ** 20).toFixed(0),
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
        return other === undefined ? [] : [storedPerSecond(sample) / storedPerSecond(other)];
      });
      const ratio = median(pairs);
      const verdict =
        least === null ? '' : `  target ${least.toFixed(1)}: ${ratio >= least ? 'met' : 'MISSED'}`;
      return [`${`${over}/${under}`.padEnd(6)} ${ratio.toFixed(2)}  ${text}${verdict}`];
    })
    .join('\n');
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en');
}
