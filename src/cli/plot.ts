/** Drawing with characters: lines of braille dots, sparks, bars. Nothing here knows records or terminals. */

/** A point in the unit square, y upwards. */
export interface Point {
  readonly x: number;
  readonly y: number;
}

/** Bit of each dot of a braille cell, [column][row from the top]. */
const DOTS = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
] as const;
const BRAILLE = 0x2800;
const SPARKS = '▁▂▃▄▅▆▇█';
const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** A field of braille cells, two dots wide and four high each, in which several lines can be drawn. */
export class Canvas {
  readonly #width: number;
  readonly #height: number;
  readonly #cells: Uint8Array;
  /** Which line came last into a cell. */
  readonly #owners: Int32Array;

  constructor(width: number, height: number) {
    this.#width = width;
    this.#height = height;
    this.#cells = new Uint8Array(width * height);
    this.#owners = new Int32Array(width * height).fill(-1);
  }

  /** Draws a line through points that are sorted by x. */
  line(points: readonly Point[], owner: number): void {
    const [right, top] = [2 * this.#width - 1, 4 * this.#height - 1];
    let last: { readonly x: number; readonly y: number } | null = null;
    for (const point of points) {
      const dot = { x: Math.round(point.x * right), y: Math.round((1 - point.y) * top) };
      const from = last ?? dot;
      const steps = Math.max(Math.abs(dot.x - from.x), Math.abs(dot.y - from.y), 1);
      for (let i = 0; i <= steps; i++)
        this.#set(
          Math.round(from.x + ((dot.x - from.x) * i) / steps),
          Math.round(from.y + ((dot.y - from.y) * i) / steps),
          owner,
        );
      last = dot;
    }
  }

  /** The rows from the top; each run of cells of one line goes through `paint`. */
  rows(paint: (text: string, owner: number) => string): string[] {
    const rows: string[] = [];
    for (let row = 0; row < this.#height; row++) {
      const runs: string[] = [];
      let run = '';
      let owner = -1;
      for (let column = 0; column < this.#width; column++) {
        const at = row * this.#width + column;
        const next = this.#owners[at] ?? -1;
        if (next !== owner && run !== '') {
          runs.push(owner === -1 ? run : paint(run, owner));
          run = '';
        }
        owner = next;
        run += owner === -1 ? ' ' : String.fromCharCode(BRAILLE + (this.#cells[at] ?? 0));
      }
      runs.push(owner === -1 ? run : paint(run, owner));
      rows.push(runs.join(''));
    }
    return rows;
  }

  #set(x: number, y: number, owner: number): void {
    const at = (y >> 2) * this.#width + (x >> 1);
    this.#cells[at] = (this.#cells[at] ?? 0) | (DOTS[x & 1]?.[y & 3] ?? 0);
    this.#owners[at] = owner;
  }
}

/** Values from 0 to 1 as bars of one cell each; null leaves a gap. */
export function sparkline(values: readonly (number | null)[]): string {
  return values.map((value) => (value === null ? ' ' : SPARKS[Math.min(7, Math.floor(value * 8))])).join('');
}

/** A bar of `share` (0 to 1) of a width, in eighths of a cell. */
export function bar(share: number, width: number): string {
  const eighths = Math.round(share * width * 8);
  return '█'.repeat(eighths >> 3) + (EIGHTHS[eighths & 7] ?? '');
}

/** A scale of values. */
export interface Scale {
  readonly low: number;
  readonly high: number;
  /** From `low` to `high`: at least these two, about as many more as wished for. */
  readonly marks: readonly number[];
}

/** A scale that holds a range of finite numbers, and ends at round ones as far as numbers go. */
export function niceScale(low: number, high: number, parts: number): Scale {
  // One value alone gets some air around it.
  const span = high > low ? high - low : Math.abs(high) || 1;
  const raw = span / Math.max(1, parts);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 2.5, 5].find((factor) => factor * power >= raw) ?? 10);
  const first = Math.floor(low / step);
  const last = Math.max(Math.ceil(high / step), first + 1);
  const marks = Number.isSafeInteger(first) && Number.isSafeInteger(last) ? steps(first, last, step) : [];
  const [bottom = Number.NaN, top = Number.NaN] = [marks[0], marks.at(-1)];
  if (bottom <= low && top >= high && bottom < top && Number.isFinite(top - bottom))
    return { low: bottom, high: top, marks };
  // Too large, too small, or too close to each other for a step between them.
  const ends = low < high ? [low, high] : [Math.min(0, low), Math.max(0, high)];
  return { low: Math.min(...ends), high: Math.max(...ends), marks: ends };
}

function steps(first: number, last: number, step: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

/** Where a value lies in a range of finite numbers, 0 to 1; in the middle of an empty one. */
export function shareOf(low: number, high: number, value: number): number {
  if (low === high) return 0.5;
  const span = high - low;
  // The halves of the largest numbers are exact, and so is their difference, nearly.
  const share = Number.isFinite(span) ? (value - low) / span : (value / 2 - low / 2) / (high / 2 - low / 2);
  return Math.min(1, Math.max(0, share));
}

/** A number for an axis: short, and without the noise of binary fractions. */
export function axisNumber(value: number): string {
  const rounded = Number(value.toPrecision(6));
  const size = Math.abs(rounded);
  if (size !== 0 && (size >= 1e7 || size < 1e-4)) return rounded.toExponential().replace('e+', 'e');
  return String(rounded);
}
