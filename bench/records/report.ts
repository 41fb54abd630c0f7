/** Medians, ratios and verdicts of the record benchmarks. */
import { availableParallelism, loadavg } from 'node:os';
import { median } from '../ingest/report.js';
import { table } from '../table.js';

/** What one variant reached in one round. */
export interface Figure {
  readonly perSecond: number;
  /** Processor time per record, us; null where it was not taken. */
  readonly cpuMicros: number | null;
  readonly bytesPerRecord: number;
}

export interface Variant {
  readonly key: string;
  readonly title: string;
  readonly figures: Figure[];
}

const number = (value: number) => Math.round(value).toLocaleString('en');

export function rateOf({ figures }: Variant): number {
  return median(figures.map(({ perSecond }) => perSecond));
}

export function figuresTable(variants: readonly Variant[], unit: string): string {
  return table(
    ['', 'variant', `${unit}/s`, 'lowest', 'highest', 'cpu us', 'bytes each'],
    variants.map((variant) => {
      const rates = variant.figures.map(({ perSecond }) => perSecond);
      const cpu = variant.figures.flatMap(({ cpuMicros }) => (cpuMicros === null ? [] : [cpuMicros]));
      return [
        variant.key,
        variant.title,
        number(rateOf(variant)),
        number(Math.min(...rates)),
        number(Math.max(...rates)),
        cpu.length === 0 ? '-' : median(cpu).toFixed(2),
        median(variant.figures.map(({ bytesPerRecord }) => bytesPerRecord)).toFixed(1),
      ];
    }),
  );
}

export interface Verdict {
  readonly text: string;
  readonly measured: string;
  readonly target: string;
  readonly met: boolean;
}

/** A rate against a bound. */
export function rateVerdict(variant: Variant, least: number, unit: string): Verdict {
  const rate = rateOf(variant);
  return {
    text: `${variant.title}, ${unit}/s without drops`,
    measured: number(rate),
    target: `>= ${number(least)}`,
    met: rate >= least,
  };
}

/**
 * A ratio is the median of the rounds' own ratios: neighbours in time see the same machine. Nothing is
 * said where one of the two was not measured.
 */
export function ratioVerdict(over: Variant, under: Variant | undefined, least: number): Verdict[] {
  const pairs = (under?.figures ?? []).flatMap(({ perSecond }, round) => {
    const mine = over.figures[round];
    return mine === undefined ? [] : [mine.perSecond / perSecond];
  });
  if (under === undefined || pairs.length === 0) return [];
  const ratio = median(pairs);
  return [
    {
      text: `${over.title} / ${under.title}`,
      measured: ratio.toFixed(2),
      target: `>= ${least.toFixed(1)}`,
      met: ratio >= least,
    },
  ];
}

/** Prints the verdicts; whether all targets are met. */
export function printVerdicts(verdicts: readonly Verdict[]): boolean {
  console.log(
    table(
      ['target', 'measured', 'wanted', ''],
      verdicts.map(({ text, measured, target, met }) => [text, measured, target, met ? 'PASS' : 'FAIL']),
    ),
  );
  return verdicts.every(({ met }) => met);
}

export function machine(before: readonly number[]): string {
  const average = (values: readonly number[]) => values.map((value) => value.toFixed(2)).join(' ');
  return `${availableParallelism()} cores, load average before ${average(before)}, after ${average(loadavg())}`;
}
