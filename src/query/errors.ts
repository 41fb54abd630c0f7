import type { ErrorClass } from '../wire/messages.js';

/**
 * Where a query was refused: `P` from its text alone, `V` after parsing but before any store was
 * read, `X` while executing.
 */
export type RejectionClass = 'P' | 'V' | 'X';

/**
 * A refused query. Its text is meant for the client: it never holds SQL, file paths or stack
 * traces (WIRE-21).
 */
export class QueryError extends Error {
  override readonly name = 'QueryError';
  readonly class: RejectionClass;
  readonly prefix: ErrorClass;
  /** 1-based character (code point) of the query text, if the error has a place in it. */
  readonly position: number | null;

  constructor(
    rejection: RejectionClass,
    prefix: ErrorClass,
    message: string,
    position: number | null = null,
  ) {
    super(message);
    this.class = rejection;
    this.prefix = prefix;
    this.position = position;
  }

  /** The whole line sent to the client: prefix, place, detail (WIRE-20). */
  get text(): string {
    const place = this.position === null ? '' : `character ${this.position}: `;
    return `${this.prefix}: ${place}${this.message}`;
  }
}
