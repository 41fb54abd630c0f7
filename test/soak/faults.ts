/** What the account may find wrong; the soak passes only with none of them. */

export type FaultKind =
  /** Neither stored nor in a gap record, or claimed to be settled without being so. */
  | 'lost'
  /** Stored twice. */
  | 'duplicated'
  /** A false or doubled gap record, a wrong cause, a payload that is not the sequence's own, an event nobody wrote. */
  | 'wrong'
  /** A process that ended by itself, failed to start, or logged an error. */
  | 'process';

const KEPT = 40;

export class FaultList {
  readonly counts: Record<FaultKind, number> = { lost: 0, duplicated: 0, wrong: 0, process: 0 };
  /** The first of them, one line each. */
  readonly details: string[] = [];

  /** @param count sequences concerned */
  add(kind: FaultKind, detail: string, count = 1): void {
    this.counts[kind] += count;
    if (this.details.length < KEPT) this.details.push(`${kind}: ${detail}`);
  }

  get total(): number {
    return Object.values(this.counts).reduce((sum, count) => sum + count, 0);
  }
}
