/**
 * `--chart`: the samples of a METRIC query as a picture. Samples over time become lines, in one field where
 * colours tell them apart, else below each other; many series become sparks; one sample per series becomes bars.
 */
import type { EventRecord } from '../wire/client.js';
import { type CommandContext, CommandFailure } from './context.js';
import { axisNumber, bar, Canvas, niceScale, type Point, type Scale, shareOf, sparkline } from './plot.js';
import { displayWidth, type Paint, PLAIN, padTo, type Style } from './terminal.js';
import { sampleParts, timeText } from './valueText.js';

/** A picture of more has no meaning, and they are held in memory. */
const MAX_SAMPLES = 500_000;
/** More series than this are sparks, and of those so many are shown. */
const MAX_LINES = 6;
const MAX_SPARKS = 60;
const MAX_LABEL = 40;
const COLORS: readonly Style[] = ['cyan', 'yellow', 'green', 'magenta', 'blue', 'red'];
const MIN_WIDTH = 40;
const DEFAULT_SIZE = { columns: 80, rows: 24 };

interface Series {
  readonly label: string;
  /** ns since the Unix epoch, ascending when drawn. */
  readonly samples: { readonly time: bigint; readonly value: number }[];
}

interface Look {
  readonly paint: Paint;
  readonly isColoured: boolean;
  readonly local: boolean;
  readonly width: number;
  readonly height: number;
}

/** Collects samples, and draws them when the result is complete. */
export class ChartWriter {
  readonly #series = new Map<string, Series>();
  readonly #look: Look;
  #samples = 0;
  /** Records without a number: histograms, or a SELECT without `value`. */
  #unfit = 0;

  constructor({ options, paint, stdout, env }: CommandContext) {
    const size = stdout as { readonly columns?: number; readonly rows?: number };
    const columns = size.columns ?? (Number(env.COLUMNS) || DEFAULT_SIZE.columns);
    this.#look = {
      paint,
      isColoured: paint !== PLAIN,
      local: options.has('local'),
      width: Math.max(MIN_WIDTH, columns),
      height: size.rows ?? DEFAULT_SIZE.rows,
    };
  }

  message(records: readonly EventRecord[]): string {
    for (const { fields } of records) {
      const sample = sampleParts(fields);
      const time = fields.get('timestamp');
      const value = typeof sample?.value === 'bigint' ? Number(sample.value) : sample?.value;
      if (
        sample === null ||
        typeof time !== 'bigint' ||
        typeof value !== 'number' ||
        !Number.isFinite(value)
      ) {
        this.#unfit++;
        continue;
      }
      if (++this.#samples > MAX_SAMPLES)
        throw new CommandFailure(
          `more than ${MAX_SAMPLES} samples cannot be drawn; thin them out, for example with AVG_OVER 5m`,
        );
      const known = this.#series.get(sample.series);
      if (known === undefined)
        this.#series.set(sample.series, { label: sample.series, samples: [{ time, value }] });
      else known.samples.push({ time, value });
    }
    return '';
  }

  end(): string {
    if (this.#samples === 0)
      throw new CommandFailure(
        this.#unfit === 0
          ? 'there are no samples to draw'
          : 'there is nothing to draw: the records hold no single numbers (a histogram needs P50, P95 or P99)',
      );
    const series = [...this.#series.values()];
    for (const { samples } of series)
      samples.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
    const lines = this.#picture(series);
    if (this.#unfit > 0)
      lines.push(
        this.#unfit === 1
          ? '1 record without a number is not drawn'
          : `${this.#unfit} records without a number are not drawn`,
      );
    return `${lines.join('\n')}\n`;
  }

  #picture(series: readonly Series[]): string[] {
    const look = this.#look;
    if (series.every(({ samples }) => samples.length === 1)) return bars(series, look);
    if (series.length > MAX_LINES) return sparks(series, look);
    if (look.isColoured || series.length === 1)
      return field(series, look, Math.min(16, Math.max(6, look.height - 6)));
    const height = Math.max(4, Math.min(8, Math.floor(look.height / series.length) - 4));
    const range = timeRange(series);
    return series.flatMap((one, i) => [...(i === 0 ? [] : ['']), ...field([one], look, height, range)]);
  }
}

interface TimeRange {
  readonly from: bigint;
  readonly to: bigint;
}

function timeRange(series: readonly Series[]): TimeRange {
  const times = series.flatMap(({ samples }) => [samples[0]?.time ?? 0n, samples.at(-1)?.time ?? 0n]);
  return {
    from: times.reduce((a, b) => (a < b ? a : b)),
    to: times.reduce((a, b) => (a > b ? a : b)),
  };
}

function valueRange(series: readonly Series[]): { readonly low: number; readonly high: number } {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const { samples } of series)
    for (const { value } of samples) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  return { low, high };
}

/** Where a time lies in a range, 0 to 1. */
function share({ from, to }: TimeRange, time: bigint): number {
  return to === from ? 0.5 : Number(time - from) / Number(to - from);
}

/** A field of lines with both axes, and a legend. */
function field(series: readonly Series[], look: Look, height: number, range = timeRange(series)): string[] {
  const { low, high } = valueRange(series);
  const scale = niceScale(low, high, 4);
  const y = (value: number) => shareOf(scale.low, scale.high, value);
  const labels = axisLabels(scale, height);
  const margin = Math.max(...[...labels.values()].map((label) => label.length));
  const width = look.width - margin - 3;
  const canvas = new Canvas(width, height);
  for (const [i, { samples }] of series.entries())
    canvas.line(
      samples.map(({ time, value }): Point => ({ x: share(range, time), y: y(value) })),
      i,
    );
  const color = (i: number) => COLORS[i % COLORS.length] ?? 'cyan';
  const rows = canvas
    .rows((text, owner) => look.paint(color(owner), text))
    .map((row, i) => {
      const label = labels.get(i);
      return `${(label ?? '').padStart(margin)} ${look.paint('dim', label === undefined ? '│' : '┤')}${row}`;
    });
  const legend = series.map(
    ({ label, samples }, i) =>
      `${look.paint(color(i), '━━')} ${look.paint('bold', label)}  ${figures(samples)}`,
  );
  return [...legend, ...rows, ...timeAxis(range, margin, width, look)];
}

/** The number at each row that bears one: round ones, from the top to the bottom. */
function axisLabels({ high, marks }: Scale, height: number): ReadonlyMap<number, string> {
  const labels = new Map<number, string>();
  const last = marks.length - 1;
  const every = Math.max(1, Math.ceil(last / Math.max(1, Math.floor((height - 1) / 2))));
  for (const [i, mark] of marks.entries())
    if (i % every === 0) labels.set(Math.round((1 - i / last) * (height - 1)), axisNumber(mark));
  labels.set(0, axisNumber(high));
  return labels;
}

function timeAxis(range: TimeRange, margin: number, width: number, look: Look): string[] {
  const isShort = range.to - range.from < 86_400_000_000_000n;
  const text = (time: bigint) => {
    const whole = timeText(time, look.local);
    return isShort ? whole.slice(11, 19) : whole.slice(0, 16).replace('T', ' ');
  };
  const [left, right] = [text(range.from), text(range.to)];
  const middle = text((range.from + range.to) / 2n);
  const half = Math.floor(width / 2);
  const line = `${' '.repeat(margin + 1)}└${'─'.repeat(half - 1)}┬${'─'.repeat(width - half)}`;
  const zone = look.local ? '' : ' UTC';
  const gap = width - left.length - right.length - zone.length;
  const inner =
    gap >= middle.length + 4
      ? middle.padStart(Math.floor((gap + middle.length) / 2)).padEnd(gap)
      : ' '.repeat(Math.max(1, gap));
  return [look.paint('dim', line), `${' '.repeat(margin + 2)}${left}${inner}${right}${zone}`];
}

function figures(samples: Series['samples']): string {
  const { low, high } = valueRange([{ label: '', samples }]);
  const last = samples.at(-1)?.value ?? 0;
  return `last ${axisNumber(last)}  min ${axisNumber(low)}  max ${axisNumber(high)}`;
}

/** One row per series: its own scale, the common time. */
function sparks(series: readonly Series[], look: Look): string[] {
  const shown = series.slice(0, MAX_SPARKS);
  const range = timeRange(series);
  const labelWidth = Math.min(MAX_LABEL, Math.max(...shown.map(({ label }) => displayWidth(label))));
  const texts = shown.map(({ samples }) => figures(samples));
  const width = Math.max(10, look.width - labelWidth - Math.max(...texts.map((text) => text.length)) - 4);
  const rows = shown.map(({ label, samples }, i) => {
    const line = sparkline(buckets(samples, range, width));
    const name = look.paint('bold', padTo(clipped(label, labelWidth), labelWidth));
    return `${name}  ${look.paint(COLORS[i % COLORS.length] ?? 'cyan', line)}  ${texts[i]}`;
  });
  if (shown.length < series.length) rows.push(`… ${series.length - shown.length} more series`);
  return [...rows, ...timeAxis(range, labelWidth, width, look)];
}

/** Means per piece of time, scaled to 0..1; null where there is no sample. */
function buckets(samples: Series['samples'], range: TimeRange, width: number): (number | null)[] {
  const { low, high } = valueRange([{ label: '', samples }]);
  const means = Array.from({ length: width }, () => ({ mean: 0, count: 0 }));
  for (const { time, value } of samples) {
    const bucket = means[Math.min(width - 1, Math.floor(share(range, time) * width))];
    if (bucket === undefined) continue;
    bucket.count++;
    // Their sum may be beyond all numbers.
    bucket.mean += value / bucket.count - bucket.mean / bucket.count;
  }
  return means.map(({ mean, count }) => (count === 0 ? null : shareOf(low, high, mean)));
}

/** One bar per series, from zero. */
function bars(series: readonly Series[], look: Look): string[] {
  const { low, high } = valueRange(series);
  const [from, to] = [Math.min(0, low), Math.max(0, high)];
  const labelWidth = Math.min(MAX_LABEL, Math.max(...series.map(({ label }) => displayWidth(label))));
  const values = series.map(({ samples }) => axisNumber(samples[0]?.value ?? 0));
  const valueWidth = Math.max(...values.map((value) => value.length));
  const width = Math.max(10, look.width - labelWidth - valueWidth - 5);
  return series.map(({ label, samples }, i) => {
    const value = samples[0]?.value ?? 0;
    // Of zeros alone there is nothing to draw.
    const place = (edge: number) => (from === to ? 0 : shareOf(from, to, edge));
    const [start, end] = [place(Math.min(0, value)), place(Math.max(0, value))];
    const indent = ' '.repeat(Math.round(start * width));
    const drawn = look.paint('cyan', bar(end - start, width));
    const name = look.paint('bold', padTo(clipped(label, labelWidth), labelWidth));
    return `${name}  ${(values[i] ?? '').padStart(valueWidth)} ${look.paint('dim', '│')}${indent}${drawn}`;
  });
}

function clipped(label: string, width: number): string {
  return displayWidth(label) <= width ? label : `${[...label].slice(0, width - 1).join('')}…`;
}
