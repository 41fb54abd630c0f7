/** What a stream begins with comes newest first (QL-70), and is shown oldest first by `--follow`. */
import type { EventRecord } from '../wire/client.js';
import { CommandFailure } from './context.js';

/** What is held until all of it has come. */
const MAX_BYTES = 64 * 1024 * 1024;

/** What a record takes besides its bytes. */
const RECORD_BYTES = 200;

export class Past {
  #messages: (readonly EventRecord[])[] = [];
  #bytes = 0;
  #isOver = false;

  /**
   * Takes the next result message of the stream, and yields what may be shown now. An empty one ends the past
   * (STR-4); until then there is nothing to show, after it everything.
   * @throws {CommandFailure} when the past is more than may be held
   */
  *add(records: readonly EventRecord[]): Generator<readonly EventRecord[]> {
    if (this.#isOver) yield records;
    else if (records.length === 0) yield* this.end();
    else {
      for (const { raw } of records) this.#bytes += raw.length + RECORD_BYTES;
      this.#messages.push(records);
      if (this.#bytes <= MAX_BYTES) return;
      this.#messages = [];
      throw new CommandFailure(
        `so much of the past cannot be shown oldest first: more than ${MAX_BYTES / 2 ** 20} MiB; ` +
          'limit it by --since instead',
      );
    }
  }

  /** The past as far as it has come. */
  *end(): Generator<readonly EventRecord[]> {
    this.#isOver = true;
    for (let last = this.#messages.pop(); last !== undefined; last = this.#messages.pop())
      yield [...last].reverse();
  }
}
