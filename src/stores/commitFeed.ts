/**
 * How writers tell of their commits (STR-5, STR-10): a ring in shared memory that every writer thread
 * puts a few words into, and a bell. Nobody reads it while no stream is open, and then a commit costs
 * its writer one load; else it costs a few atomic stores and a wake-up. A writer never waits.
 *
 * Each entry has a ticket, counted over all writers: the order of tickets is the order in which streams
 * see the batches (STR-8). A reader that is lapped hears so and looks at the databases instead.
 */

/** Entries kept: at a thousand commits per second, some seconds for a reader to fall behind. */
const SLOTS = 4096;

/** Words of an entry: state, source, last id, rows. */
const WORDS = 4;

/** 64-bit words in front of the entries: the bell and the number of readers share the first. */
const HEAD = 2;
const NEXT_TICKET = 1;
const BELL = 0;
const READERS = 1;

/** An entry whose ticket is out but which is not written yet: its writer's thread may have ended. */
const ABANDONED_MS = 200;

/** Source number of the log store; event shards have theirs. */
export const LOG_SOURCE = -1;

/** In the runtime since Node 16; the compiler's library has it with ES2024. */
const { waitAsync } = Atomics as unknown as {
  waitAsync(
    cell: Int32Array<SharedArrayBuffer>,
    index: number,
    value: number,
    timeoutMs: number,
  ): { readonly async: false } | { readonly async: true; readonly value: Promise<unknown> };
};

/** What a writer has said. */
export interface CommitEntry {
  readonly ticket: bigint;
  /** Number of the shard, or {@link LOG_SOURCE}. */
  readonly source: number;
  /** Highest rowid in the database. */
  readonly last: bigint;
  /**
   * Rows of the batch, whose ids end with `last`; 0: no batch, but where the ids stand, because the
   * writer has just opened the database or found that ids count from lower again.
   */
  readonly rows: number;
}

export class CommitFeed {
  readonly shared: SharedArrayBuffer;
  readonly #words: BigInt64Array;
  readonly #head: Int32Array<SharedArrayBuffer>;

  constructor(shared: SharedArrayBuffer = CommitFeed.allocate()) {
    this.shared = shared;
    this.#words = new BigInt64Array(shared);
    this.#head = new Int32Array(shared, 0, 2);
  }

  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer((HEAD + SLOTS * WORDS) * BigInt64Array.BYTES_PER_ELEMENT);
  }

  /** Ticket of the next entry: all lower ones belong to commits of before. */
  get next(): bigint {
    return Atomics.load(this.#words, NEXT_TICKET);
  }

  /** Says something, if anybody reads. Any thread. */
  publish(source: number, last: bigint, rows: number): void {
    if (Atomics.load(this.#head, READERS) === 0) return;
    const ticket = Atomics.add(this.#words, NEXT_TICKET, 1n);
    const at = placeOf(ticket);
    // A reader that was here first sees that the entry changes under its hands.
    Atomics.store(this.#words, at, 0n);
    Atomics.store(this.#words, at + 1, BigInt(source));
    Atomics.store(this.#words, at + 2, last);
    Atomics.store(this.#words, at + 3, BigInt(rows));
    Atomics.store(this.#words, at, ticket + 1n);
    Atomics.add(this.#head, BELL, 1);
    Atomics.notify(this.#head, BELL);
  }

  /** Their thread is gone and cannot close them. */
  forgetReaders(): void {
    Atomics.store(this.#head, READERS, 0);
  }

  /** Begins to read: entries published from now on. */
  read(): CommitFeedReader {
    Atomics.add(this.#head, READERS, 1);
    return new CommitFeedReader(this.#words, this.#head);
  }
}

function placeOf(ticket: bigint): number {
  return HEAD + Number(ticket % BigInt(SLOTS)) * WORDS;
}

/** `entry`, nothing there yet, or that entries have been missed. */
export type CommitFeedStep = { readonly entry: CommitEntry } | 'nothing' | 'missed';

export class CommitFeedReader {
  readonly #words: BigInt64Array;
  readonly #head: Int32Array<SharedArrayBuffer>;
  #ticket: bigint;
  /** Since when the next entry is taken but not written, ms of `performance.now()`. */
  #stuckSince: number | null = null;
  #closed = false;

  constructor(words: BigInt64Array, head: Int32Array<SharedArrayBuffer>) {
    this.#words = words;
    this.#head = head;
    this.#ticket = Atomics.load(words, NEXT_TICKET);
  }

  /** Ticket of the entry that `next` gives next. */
  get position(): bigint {
    return this.#ticket;
  }

  /** Takes the next entry. After `missed` it goes on with what is published from then on. */
  next(): CommitFeedStep {
    const newest = Atomics.load(this.#words, NEXT_TICKET);
    if (newest === this.#ticket) return 'nothing';
    const at = placeOf(this.#ticket);
    const state = Atomics.load(this.#words, at);
    const entry = {
      ticket: this.#ticket,
      source: Number(Atomics.load(this.#words, at + 1)),
      last: Atomics.load(this.#words, at + 2),
      rows: Number(Atomics.load(this.#words, at + 3)),
    };
    if (state === this.#ticket + 1n && Atomics.load(this.#words, at) === state) {
      this.#ticket += 1n;
      this.#stuckSince = null;
      return { entry };
    }
    const lapped = newest - this.#ticket > BigInt(SLOTS);
    this.#stuckSince ??= performance.now();
    if (!lapped && performance.now() - this.#stuckSince < ABANDONED_MS) return 'nothing';
    this.#ticket = newest;
    this.#stuckSince = null;
    return 'missed';
  }

  /** Resolves when there may be something new, at the latest after `timeoutMs`. */
  async wait(timeoutMs: number): Promise<void> {
    const bell = Atomics.load(this.#head, BELL);
    if (Atomics.load(this.#words, NEXT_TICKET) !== this.#ticket && this.#stuckSince === null) return;
    const waiting = waitAsync(this.#head, BELL, bell, timeoutMs);
    if (waiting.async) await waiting.value;
  }

  /** Stops reading. Safe twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    Atomics.sub(this.#head, READERS, 1);
  }
}

/** One writer's mouth: it knows what it has said and notices when ids begin anew. */
export class CommitAnnouncer {
  readonly #feed: CommitFeed;
  readonly #source: number;
  #last: bigint;

  /** @param last highest rowid in the database that was just opened, 0 when it is empty */
  constructor(feed: CommitFeed, source: number, last: bigint) {
    this.#feed = feed;
    this.#source = source;
    this.#last = last;
    feed.publish(source, last, 0);
  }

  /** A transaction is committed that inserted `rows` rows, the last with id `last`. */
  committed(last: bigint, rows: number): void {
    if (rows === 0) return;
    const before = last - BigInt(rows);
    // Retention took the highest ids away: SQLite counts on from what is left.
    if (before < this.#last) this.#feed.publish(this.#source, before, 0);
    this.#last = last;
    this.#feed.publish(this.#source, last, rows);
  }
}
