/**
 * The tail thread's work: each committed batch is read once and tested for all streams that have caught
 * up (STR-2, STR-5, STR-8); the others follow the same commits at their own pace first (STR-3, STR-4).
 *
 * Where a stream stands in a database is one number, the highest rowid it has seen (its mark). It begins
 * with what its initial set was read from, every batch moves it on, and a writer that says that its ids
 * stand lower now moves it back: rowids restart when retention empties a table or a fresh file takes a
 * damaged one's place.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { NativeAddon } from '../../../src/native/addon.js';
import type { TailProgram } from '../../../src/query/predicateProgram.js';
import type { Found } from '../../../src/query/survey.js';
import { type CommitEntry, CommitFeed, type CommitFeedReader } from '../../../src/stores/commitFeed.js';
import { errorText } from '../../../src/stores/storeError.js';
import { FRAME_CREDITS, FRAME_MAX_BYTES } from '../protocol.js';
import { CrossTerms } from './crossTerms.js';
import { storeOfSource, TailDatabases, type TailStore } from './databases.js';
import { CommitHistory } from './history.js';
import { Programs } from './programs.js';
import type { FromTail, RowRange, Seam, TailWorkerData, ToTail } from './protocol.js';
import { advance, batchOf, failureOf, type Program, type Stream } from './stream.js';

/** Rows one step of catching up looks at: some ms. */
const STEP_ROWS = 5000;

/** A unit is one committed batch. Only what was missed is larger than a batch can be, and is cut. */
const UNIT_ROWS = 1_000_000;
const UNIT_BYTES = 64 * 1024 * 1024;

/** Bytes of units under way to the main thread before the next batch is read. */
const UNDER_WAY_BYTES = 32 * 1024 * 1024;

/** Batches read before messages get a turn. */
const BATCHES_PER_TURN = 8;

/** How long a wait for commits may last before it is looked whether somebody still waits, ms. */
const WAIT_MS = 1000;

/** A program, and what is true of its terms for a batch. */
interface Judged {
  readonly program: Program;
  readonly truths: Uint8Array | null;
}

export class Tailer {
  readonly #native: NativeAddon;
  readonly #post: (message: FromTail, transfer?: readonly ArrayBuffer[]) => void;
  readonly #feed: CommitFeed;
  readonly #databases: TailDatabases;
  readonly #cross: CrossTerms;
  readonly #history = new CommitHistory();
  readonly #programs: Programs;
  readonly #streams = new Map<number, Stream>();
  #reader: CommitFeedReader | null = null;
  #underWay = 0;
  #roomAgain: (() => void) | null = null;
  #stopped = false;

  constructor(
    data: TailWorkerData,
    native: NativeAddon,
    post: (message: FromTail, transfer?: readonly ArrayBuffer[]) => void,
  ) {
    this.#native = native;
    this.#post = post;
    this.#feed = new CommitFeed(data.commits);
    this.#databases = new TailDatabases(data);
    this.#cross = new CrossTerms(data, native, (subject, reason) =>
      this.#warn('a database cannot be read and is left out of the conditions of streams', subject, reason),
    );
    this.#programs = new Programs(native, this.#cross);
  }

  receive(message: Exclude<ToTail, { type: 'worker.stop' }>): void {
    if (message.type === 'tail.open') {
      this.#openStream(message);
      return;
    }
    if (message.type === 'tail.ack') {
      this.#underWay -= message.bytes;
      if (this.#underWay <= UNDER_WAY_BYTES) this.#roomAgain?.();
      return;
    }
    const stream = this.#streams.get(message.id);
    if (stream === undefined) return;
    switch (message.type) {
      case 'tail.attach':
        try {
          this.#attach(stream, message.seam, message.credits);
        } catch (error) {
          this.#fail(stream, error);
        }
        break;
      case 'tail.credit':
        stream.credits++;
        this.#catchUpSoon(stream);
        break;
      case 'tail.hold':
        this.#hold(stream, []);
        break;
      case 'tail.resume':
        this.#resume(stream, message.program, message.rows);
        break;
      case 'tail.close':
        this.#close(stream);
        break;
    }
  }

  /** Lets go of everything. */
  stop(): void {
    this.#stopped = true;
    for (const stream of [...this.#streams.values()]) this.#close(stream);
    this.#roomAgain?.();
    this.#programs.close();
  }

  #openStream({ id, program, crossTypeWindowMs }: Extract<ToTail, { type: 'tail.open' }>): void {
    try {
      if (this.#reader === null) {
        this.#reader = this.#feed.read();
        void this.#follow(this.#reader);
      }
      this.#streams.set(id, {
        id,
        program: this.#programs.take(program, crossTypeWindowMs),
        crossTypeWindowMs,
        phase: 'opened',
        held: false,
        redo: [],
        place: this.#history.next,
        seam: null,
        marks: new Map(),
        credits: 0,
      });
      this.#post({ type: 'tail.opened', id });
    } catch (error) {
      const failure = failureOf(error);
      if (failure.kind === 'storage') this.#warn('a stream cannot be opened', 'stream', errorText(error));
      this.#post({ type: 'tail.failed', id, failure });
      this.#rest();
    }
  }

  #close(stream: Stream): void {
    if (!this.#streams.delete(stream.id)) return;
    this.#programs.give(stream.program);
    this.#forget();
    this.#rest();
  }

  /** Without streams nothing is read, and the writers need say nothing. */
  #rest(): void {
    if (this.#streams.size > 0) return;
    this.#reader?.close();
    this.#reader = null;
    this.#databases.close();
    this.#cross.close();
  }

  /** The history is for those who have not caught up. */
  #forget(): void {
    for (const { phase, held } of this.#streams.values()) if (phase !== 'live' || held) return;
    this.#history.clear();
  }

  #fail(stream: Stream, error: unknown): void {
    if (!this.#streams.has(stream.id)) return;
    const failure = failureOf(error);
    if (failure.kind === 'storage') {
      this.#warn('a stream failed while reading new rows', stream.program.store, errorText(error));
    }
    this.#close(stream);
    this.#post({ type: 'tail.failed', id: stream.id, failure });
  }

  // Following the writers

  async #follow(reader: CommitFeedReader): Promise<void> {
    let batches = 0;
    while (this.#reader === reader && !this.#stopped) {
      const step = reader.next();
      if (step === 'nothing') {
        await reader.wait(WAIT_MS);
        batches = 0;
        continue;
      }
      if (step === 'missed') this.#lookAtAll(reader.position - 1n);
      else this.#heard(step.entry);
      if (++batches < BATCHES_PER_TURN && this.#underWay <= UNDER_WAY_BYTES) continue;
      batches = 0;
      await this.#room();
      await turn();
    }
  }

  /** Resolves when the main thread has taken what is under way. */
  #room(): Promise<void> {
    if (this.#underWay <= UNDER_WAY_BYTES || this.#stopped) return Promise.resolve();
    return new Promise((resolve) => {
      this.#roomAgain = () => {
        this.#roomAgain = null;
        resolve();
      };
    });
  }

  #heard(entry: CommitEntry): void {
    const store = storeOfSource(entry.source);
    const starts = new Map<bigint, Stream[]>();
    let waiting = false;
    for (const stream of this.#streams.values()) {
      if (stream.phase !== 'live' || stream.held) waiting = true;
      else if (stream.program.store === store) {
        const start = advance(stream, entry, this.#databases.pathOf(entry.source));
        if (start === null) continue;
        const group = starts.get(start);
        if (group === undefined) starts.set(start, [stream]);
        else group.push(stream);
      }
    }
    const { next } = this.#history;
    for (const [start, streams] of starts) {
      const ready = streams.filter((stream) => !this.#meetsNews(stream, entry, start, next));
      if (ready.length < streams.length) waiting = true;
      if (ready.length > 0) this.#readBatch(entry, start, ready);
    }
    if (waiting) this.#history.add(entry);
  }

  /** Entries were missed: what is in the databases now stands for them. */
  #lookAtAll(ticket: bigint): void {
    for (const store of ['events', 'logs'] as const) {
      const streams = [...this.#streams.values()].filter(({ program }) => program.store === store);
      if (streams.length === 0) continue;
      for (const source of this.#sourcesOf(store)) {
        try {
          const last = this.#databases.highest(source);
          const isLower = streams.some(({ marks }) => (marks.get(source) ?? 0n) > last);
          if (isLower) this.#heard({ ticket, source, last, rows: 0 });
          if (last > 0n) this.#heard({ ticket, source, last, rows: Number(last) });
        } catch (error) {
          this.#warn('a database cannot be read', this.#databases.pathOf(source), errorText(error));
        }
      }
    }
  }

  #sourcesOf(store: TailStore): number[] {
    try {
      return this.#databases.sources(store);
    } catch (error) {
      this.#warn('the databases cannot be listed', store, errorText(error));
      return [];
    }
  }

  /** One read of the batch for all these streams, which stand at the same row. */
  #readBatch(entry: Pick<CommitEntry, 'source' | 'last'>, start: bigint, streams: readonly Stream[]): void {
    let programs = [...new Set(streams.map(({ program }) => program))];
    // Only streams with conditions of their own can fail so, and those share no program.
    const failed = (of: Program, error: unknown): void => {
      for (const stream of streams) if (stream.program === of) this.#fail(stream, error);
    };
    try {
      for (let after = start; after < entry.last; ) {
        const judged = this.#judge(entry, after, programs, failed);
        if (judged.length === 0) return;
        programs = judged.map(({ program }) => program);
        const scan = this.#scan(entry, after, judged, UNIT_ROWS, UNIT_BYTES);
        for (const { part, records, frames } of scan.matches) {
          const program = programs[part];
          const ids = streams.filter((each) => each.program === program).map(({ id }) => id);
          this.#underWay += frames.byteLength;
          const rows = { source: entry.source, after, upTo: scan.last };
          this.#post({ type: 'tail.unit', ids, rows, records, frames }, [frames.buffer as ArrayBuffer]);
        }
        if (scan.done) return;
        after = scan.last;
      }
    } catch (error) {
      // A deleted database took its rows along; its writer will make another (FAIL-15).
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
        this.#warn('rows were committed to a database that is gone', 'stream', errorText(error));
      } else for (const stream of streams) this.#fail(stream, error);
    }
  }

  // Waiting for a decision (STR-13, ACL-49, ACL-50)

  /** Whether a batch holds what nobody has decided about: then the stream stops before it, at its place. */
  #meetsNews(
    stream: Stream,
    { source, last }: Pick<CommitEntry, 'source' | 'last'>,
    start: bigint,
    place: number,
  ): boolean {
    const { undecided: find } = stream.program;
    if (find === null) return false;
    try {
      const news = find(this.#databases.connection(source), start, last);
      if (news.length === 0) return false;
      stream.marks.set(source, start);
      stream.place = place;
      this.#hold(stream, news);
    } catch (error) {
      this.#fail(stream, error);
    }
    return true;
  }

  /** The same for rows it looks at again, which is another matter than where it stands. */
  #meetsNewsAgain(stream: Stream, rows: RowRange): boolean {
    const mark = stream.marks.get(rows.source);
    const meets = this.#meetsNews(stream, batchOf(rows), rows.after, stream.place);
    if (mark !== undefined) stream.marks.set(rows.source, mark);
    return meets;
  }

  /** From here on commits are kept for it. */
  #hold(stream: Stream, news: Found): void {
    if (stream.held) return;
    stream.held = true;
    if (stream.phase === 'live' && news.length === 0) stream.place = this.#history.next;
    this.#post({ type: 'tail.held', id: stream.id, news });
  }

  #resume(stream: Stream, program: TailProgram, rows: readonly RowRange[]): void {
    if (!stream.held) return;
    try {
      const old = stream.program;
      stream.program = this.#programs.take(program, stream.crossTypeWindowMs);
      this.#programs.give(old);
    } catch (error) {
      this.#fail(stream, error);
      return;
    }
    stream.held = false;
    stream.redo = [...rows, ...stream.redo];
    if (stream.phase === 'live') this.#goOn(stream);
    else this.#catchUpSoon(stream);
  }

  /** A live stream catches up in one go: it waited some ms. */
  #goOn(stream: Stream): void {
    const goes = (): boolean => !stream.held && this.#streams.get(stream.id) === stream;
    for (let rows = stream.redo[0]; rows !== undefined && goes(); rows = stream.redo[0]) {
      if (this.#meetsNewsAgain(stream, rows)) return;
      stream.redo.shift();
      this.#readBatch(batchOf(rows), rows.after, [stream]);
    }
    for (const entry of this.#history.since(stream.place)) {
      if (!goes()) return;
      if (storeOfSource(entry.source) !== stream.program.store) continue;
      const start = advance(stream, entry, this.#databases.pathOf(entry.source));
      if (start === null || this.#meetsNews(stream, entry, start, entry.place)) continue;
      this.#readBatch(entry, start, [stream]);
    }
    if (goes()) this.#forget();
  }

  /** What the newest record of a batch makes of the programs' terms; one that fails is left out (STR-25). */
  #judge(
    { source, last: upTo }: Pick<CommitEntry, 'source' | 'last'>,
    after: bigint,
    programs: readonly Program[],
    onFailed: (program: Program, error: unknown) => void,
  ): Judged[] {
    const asking = programs.some(({ terms }) => terms !== null);
    const newest = asking ? this.#databases.newest(source, after, upTo) : null;
    const judged: Judged[] = [];
    for (const program of programs) {
      try {
        judged.push({ program, truths: program.terms?.truths(newest ?? 0n) ?? null });
      } catch (error) {
        onFailed(program, error);
      }
    }
    return judged;
  }

  /** One step of catching up. */
  #scanFor(
    { program }: Stream,
    entry: Pick<CommitEntry, 'source' | 'last'>,
    after: bigint,
  ): ReturnType<NativeAddon['tailScan']> {
    const judged = this.#judge(entry, after, [program], (_, error) => {
      throw error;
    });
    return this.#scan(entry, after, judged, STEP_ROWS, FRAME_MAX_BYTES);
  }

  #scan(
    entry: Pick<CommitEntry, 'source' | 'last'>,
    after: bigint,
    judged: readonly Judged[],
    maxRows: number,
    maxBytes: number,
  ): ReturnType<NativeAddon['tailScan']> {
    const { source, last: upTo } = entry;
    const slot = this.#databases.slot(source);
    const parts = judged.map(({ program, truths }) => ({ program: program.number, truths }));
    const tail = this.#programs.tailOf(storeOfSource(source));
    return this.#native.tailScan(tail, { slot, after, upTo, maxRows, maxBytes, parts });
  }

  // Catching up

  #attach(stream: Stream, seam: Seam, credits: number): void {
    if (stream.phase !== 'opened') return;
    stream.phase = 'catchingUp';
    stream.seam = seam;
    stream.credits = credits;
    const sources = new Map(
      this.#databases
        .sources(stream.program.store)
        .map((source) => [this.#databases.pathOf(source), source] as const),
    );
    for (const { path, last } of seam.databases) {
      const source = sources.get(path);
      if (source !== undefined) stream.marks.set(source, last);
    }
    this.#catchUpSoon(stream);
  }

  #catchUpSoon(stream: Stream): void {
    if (stream.phase !== 'catchingUp') return;
    // An immediate: credits, other streams and commits have their turns in between.
    setImmediate(() => {
      try {
        this.#catchUp(stream);
      } catch (error) {
        this.#fail(stream, error);
      }
    });
  }

  /** One step: up to a frame of records out of the next batch that the stream has not seen. */
  #catchUp(stream: Stream): void {
    if (this.#streams.get(stream.id) !== stream || stream.phase !== 'catchingUp') return;
    if (stream.credits === 0 || stream.held) return;
    const [rows] = stream.redo;
    if (rows !== undefined) {
      if (!this.#meetsNewsAgain(stream, rows)) this.#redoStep(stream, rows);
      this.#catchUpSoon(stream);
      return;
    }
    const entry = this.#history.from(stream.place);
    if (entry === null) {
      // What is under way belongs to the initial phase still (STR-4).
      if (stream.credits < FRAME_CREDITS) return;
      stream.phase = 'live';
      this.#forget();
      this.#post({ type: 'tail.live', id: stream.id });
      return;
    }
    const isOurs = storeOfSource(entry.source) === stream.program.store;
    const path = this.#databases.pathOf(entry.source);
    const start = isOurs ? advance(stream, entry, path) : null;
    if (start === null) {
      stream.place = entry.place + 1;
    } else if (!this.#meetsNews(stream, entry, start, entry.place)) {
      const scan = this.#scanFor(stream, entry, start);
      if (scan.done) stream.place = entry.place + 1;
      else stream.marks.set(entry.source, scan.last);
      this.#postFrame(stream, { source: entry.source, after: start, upTo: scan.last }, scan);
    }
    this.#catchUpSoon(stream);
  }

  #redoStep(stream: Stream, rows: RowRange): void {
    const scan = this.#scanFor(stream, batchOf(rows), rows.after);
    if (scan.done) stream.redo.shift();
    else stream.redo[0] = { ...rows, after: scan.last };
    this.#postFrame(stream, { ...rows, upTo: scan.last }, scan);
  }

  #postFrame(
    stream: Stream,
    rows: RowRange,
    { matches: [match] }: ReturnType<NativeAddon['tailScan']>,
  ): void {
    if (match === undefined) return;
    stream.credits--;
    const { records, frames } = match;
    this.#post({ type: 'tail.frame', id: stream.id, rows, records, frames }, [frames.buffer as ArrayBuffer]);
  }

  #warn(text: string, subject: string, reason: string): void {
    this.#post({ type: 'worker.warning', text, details: { subject, reason } });
  }
}
