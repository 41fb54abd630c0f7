/**
 * Bytes of a pipe → lines, by the rules of whoever forwards the output of a service (LOG-57..59): without
 * the final newline, invalid UTF-8 as U+FFFD, long lines cut and marked. Holds one line at most.
 */

/** `MaxLogLineLength` (LOG-59). */
export const MAX_LINE_BYTES = 8192;
/** Stands behind the bytes kept of a line that was cut (LOG-59). */
export const TRUNCATED = '[truncated]';

const NEWLINE = 0x0a;

/**
 * @example
 * const splitter = new LineSplitter();
 * splitter.push(Buffer.from('one\ntw')); // ['one']
 * splitter.push(Buffer.from('o\nthree')); // ['two']
 * splitter.end(); // ['three']
 */
export class LineSplitter {
  readonly #maxBytes: number;
  /** The unfinished line: one byte more than a line may have, which tells that it must be cut. */
  readonly #line: Buffer;
  #length = 0;
  /** Something of the unfinished line was discarded. */
  #cut = false;

  constructor(maxBytes = MAX_LINE_BYTES) {
    this.#maxBytes = maxBytes;
    this.#line = Buffer.allocUnsafe(maxBytes + 1);
  }

  /** The lines that end in `chunk`, in order. */
  push(chunk: Uint8Array): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, from)) {
      this.#append(chunk, from, end);
      lines.push(this.#take());
      from = end + 1;
    }
    this.#append(chunk, from, chunk.length);
    return lines;
  }

  /** The pipe has ended: its last line, if it had no newline (LOG-58). */
  end(): string[] {
    return this.#length === 0 ? [] : [this.#take()];
  }

  #append(chunk: Uint8Array, from: number, to: number): void {
    const kept = Math.min(to - from, this.#line.length - this.#length);
    this.#line.set(chunk.subarray(from, from + kept), this.#length);
    this.#length += kept;
    this.#cut = this.#length > this.#maxBytes;
  }

  #take(): string {
    const text = this.#cut
      ? this.#line.toString('utf8', 0, characterBoundary(this.#line, this.#maxBytes)) + TRUNCATED
      : this.#line.toString('utf8', 0, this.#length);
    this.#length = 0;
    this.#cut = false;
    return text;
  }
}

/** The last place up to `at` where no character is cut in two; `bytes` has a byte there. */
function characterBoundary(bytes: Uint8Array, at: number): number {
  if (!isContinuation(bytes[at] ?? 0)) return at;
  // A character has four bytes at most: its first one is at most three before the cut.
  for (let start = at - 1; start >= 0 && start >= at - 3; start--) {
    const byte = bytes[start] ?? 0;
    if (isContinuation(byte)) continue;
    return start + sequenceLength(byte) > at ? start : at;
  }
  return at;
}

function isContinuation(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}

/** Bytes of the character that begins so; 1 for a byte that begins none. */
function sequenceLength(first: number): number {
  if (first >= 0xf0 && first < 0xf5) return 4;
  if (first >= 0xe0 && first < 0xf0) return 3;
  return first >= 0xc2 && first < 0xe0 ? 2 : 1;
}
