/** What the measurements are held against. */

export class Verdicts {
  #failed = false;
  readonly #lines: string[] = [];

  /** Notes whether a figure keeps its limit. */
  check(what: string, figure: number, keeps: 'at least' | 'at most', limit: number, unit: string): void {
    const kept = keeps === 'at least' ? figure >= limit : figure <= limit;
    const shown = figure >= 100 ? Math.round(figure) : Math.round(figure * 100) / 100;
    this.#lines.push(`${kept ? 'kept  ' : 'MISSED'}  ${what}: ${shown} ${unit} (${keeps} ${limit})`);
    this.#failed ||= !kept;
  }

  /** Something that cannot be judged here. */
  skip(what: string, why: string): void {
    this.#lines.push(`not judged  ${what}: ${why}`);
  }

  get failed(): boolean {
    return this.#failed;
  }

  toString(): string {
    return this.#lines.join('\n');
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
