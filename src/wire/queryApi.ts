/** `query` and `tail` of the client library. */
import { parseQuery } from '../query/parser.js';
import { type QueryOptions as ConnectionOptions, queryBatches } from './client.js';
import { querySocket } from './defaults.js';
import { RecordIteration, type Records } from './recordIteration.js';
import { type Row, RowReader } from './rows.js';

export interface QueryOptions extends ConnectionOptions {
  /** Path of the query socket; else `$EVENTD_SOCKET`, else `/run/eventd/query.sock`. */
  readonly socket?: string;
}

/**
 * Runs a query and yields its records as they arrive; memory holds one result message at a time, and a
 * slow loop makes eventd wait. Leaving the loop, or aborting `options.signal`, cancels the query. For very many
 * records take {@link Records.batches}.
 *
 * @typeParam T the shape of the records: {@link EventRow}, `LogRow`, `MetricRow`, or one of your own where
 * SELECT or an aggregation decides; it is not checked
 * @throws {QueryFailure} eventd's error, with `class`, `detail` and `position`; records may precede it
 * @throws {ConnectionFailure} no connection, or it ended before the result did
 * @throws the signal's reason when it aborts
 * @example
 * for await (const event of query<EventRow>('EVENTS kacs.* SINCE 1h ago')) console.log(event.event_type);
 */
export function query<T extends Row = Row>(text: string, options: QueryOptions = {}): Records<T> {
  return new RecordIteration(rowBatches<T>(text, options), options.signal);
}

function rowBatches<T extends Row>(
  text: string,
  options: QueryOptions,
): AsyncGenerator<readonly T[], void, undefined> {
  const rows = new RowReader();
  return queryBatches(querySocket(options.socket), text, options, (reader) => rows.read(reader) as T);
}

/** Records as they are stored, without an end. */
export interface Tail<T extends Row = Row> extends AsyncIterable<T>, AsyncDisposable {
  /**
   * Resolves when eventd has begun to watch: what is committed from now on will come. What was stored
   * before comes first, newest first unless the query sorts; its end is not shown. Rejects as the iteration
   * does when there is no such moment.
   */
  readonly ready: Promise<void>;
  /** The records as they arrive, in arrays that are never empty, instead of one by one. */
  batches(): AsyncGenerator<readonly T[], void, undefined>;
  /** Ends the stream; the loop over it ends, too. Safe twice. */
  close(): Promise<void>;
}

/**
 * Follows a query of EVENTS or LOGS: what is stored, then what is committed from then on. `STREAM` is
 * added to the text if it is not there; `TAKE 0` leaves out what is stored.
 *
 * The connection opens at once. Take records steadily: eventd drops a stream whose client does not keep
 * up, and the loop throws a {@link QueryFailure} of class `backpressure` (`shutting down` when eventd stops).
 * It can be looped over once.
 *
 * @example
 * const events = tail<EventRow>('EVENTS kacs.* TAKE 0');
 * await events.ready;
 * for await (const event of events) console.log(event.event_type);
 */
export function tail<T extends Row = Row>(text: string, options: QueryOptions = {}): Tail<T> {
  const closing = new AbortController();
  const signal =
    options.signal === undefined ? closing.signal : AbortSignal.any([options.signal, closing.signal]);
  const messages = rowBatches<T>(withStream(text), { ...options, signal });
  // Asked for now, not when somebody loops: `ready` should come without a loop.
  const first = messages.next();
  const ready = first.then(() => undefined);
  // Whoever only loops learns of a failure there.
  ready.catch(() => undefined);
  async function* batches(): AsyncGenerator<readonly T[], void, undefined> {
    try {
      for (let message = await first; message.done !== true; message = await messages.next())
        yield message.value;
    } catch (error) {
      if (closing.signal.aborted && options.signal?.aborted !== true) return;
      throw error;
    }
  }
  const source = batches();
  const end = async () => {
    closing.abort();
    await messages.return();
    // Last: it waits for a message that is being waited for.
    return source.return();
  };
  const iteration = new RecordIteration({ next: () => source.next(), return: end }, options.signal);
  const close = async () => {
    closing.abort();
    await iteration.return();
  };
  return {
    ready,
    close,
    batches: () => iteration.batches(),
    [Symbol.asyncIterator]: () => iteration,
    [Symbol.asyncDispose]: close,
  };
}

/**
 * The text with STREAM. A text that does not parse gets it as well: eventd says what is wrong with it, at
 * the same place.
 */
export function withStream(text: string): string {
  try {
    const parsed = parseQuery(text);
    if ('stream' in parsed && parsed.stream) return text;
  } catch {
    // Falls through.
  }
  // On a line of its own: the text may end in a comment.
  return `${text}\nSTREAM`;
}
