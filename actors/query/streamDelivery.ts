/**
 * A stream as its client gets it (STR-2): watched from before its initial set is read, then under the flow
 * control of ordinary results until it has caught up, and from there on one committed batch at a time.
 * Whether a batch is written or ends the stream is for the session's machine to say.
 */
import type { Socket } from 'node:net';
import type { AccessSession } from '../../src/access/accessSession.js';
import { messageOf } from '../../src/host/errorMessage.js';
import { tryDescriptorOf } from '../../src/host/socketDescriptor.js';
import type { TailProgram } from '../../src/query/predicateProgram.js';
import type { Found } from '../../src/query/survey.js';
import { HeldStream } from './heldStream.js';
import type { QueryFailure } from './protocol.js';
import type { QuerySessionHost } from './sessionHost.js';
import type { RowRange, Seam } from './tail/protocol.js';
import type { Watch } from './tail/tailThread.js';

/**
 * What the kernel is asked to take of a stream for a client that is not scheduled just then: at 100,000
 * events per second about a tenth of a second, or a few committed batches (STR-11).
 */
const SEND_BUFFER_BYTES = 4 * 1024 * 1024;

/** Immediates after which the socket has been polled for sure: the next one ends this turn, one more a whole poll. */
const POLL_TURNS = 2;

export interface StreamDeliveryOptions {
  readonly socket: Socket;
  readonly host: Pick<QuerySessionHost, 'logger' | 'watch' | 'onSecurityChange' | 'widen'>;
  readonly access: AccessSession;
  readonly program: TailProgram;
  /** The program anew, after descriptors changed or for names nobody decided about; rejects in words for the client. */
  readonly again: (news: Found) => Promise<TailProgram>;
  /** The initial set may be read now: later commits are accounted for (STR-3). */
  readonly onOpened: () => void;
  /** Records that were committed while the initial set was delivered, under credits. */
  readonly onFrame: (frame: Uint8Array, records: number) => void;
  readonly onLive: () => void;
  /** A committed batch has its turn: `writeUnit` within the call, or never. `blocked`: see STR-12. */
  readonly onUnit: (records: number, blocked: boolean) => void;
  /** The stream cannot go on. */
  readonly onFailed: (failure: QueryFailure) => void;
}

export class StreamDelivery {
  readonly #options: StreamDeliveryOptions;
  readonly #watch: Watch;
  /** Keeps back what was found under verdicts of before. */
  readonly #held: HeldStream;
  /** Where the initial set ends. */
  #seam: Seam | null = null;
  /** Committed batches that wait for their turn, and the one that has it. */
  #units: { readonly frames: Uint8Array; readonly records: number }[] = [];
  #offered: Uint8Array | null = null;

  /** Begins to watch. Calls back later only. */
  constructor(options: StreamDeliveryOptions) {
    const { access, program, again, host, onOpened, onFrame, onLive, onFailed } = options;
    this.#options = options;
    this.#watch = host.watch(program, {
      onOpened,
      onFrame: (frame, records, rows) => {
        if (this.#held.isOld(rows)) this.#watch.credit();
        else onFrame(frame, records);
      },
      onLive,
      onUnit: (frames, records, rows) => this.#unitArrived(frames, records, rows),
      onHeld: (news) => void this.#held.decide(news),
      onFailed,
    });
    this.#held = new HeldStream({
      access,
      watch: this.#watch,
      again,
      onSecurityChange: host.onSecurityChange,
      onFailed: (error) => onFailed({ kind: 'refused', text: messageOf(error) }),
    });
  }

  /** The reader of the initial set says where it ends. */
  endsAt(seam: Seam): void {
    this.#seam = seam;
  }

  /** The initial set is out: what was committed since follows, so many frames of it at once. */
  catchUp(credits: number): void {
    if (this.#seam === null) throw new Error('watched without a seam');
    this.#widen();
    this.#watch.attach(this.#seam, credits);
    this.#held.heed();
  }

  /** Lets one frame more come while it catches up. */
  credit(): void {
    this.#watch.credit();
  }

  /** Writes the batch that has its turn. */
  writeUnit(): void {
    if (this.#offered === null) throw new Error('no unit is offered');
    this.#options.socket.write(this.#offered);
  }

  /** Nothing is called back any more, but for a decision under way that fails. Safe twice. */
  close(): void {
    this.#held.close();
    this.#watch.close();
    this.#units = [];
  }

  #widen(): void {
    const { socket, host } = this.#options;
    const fd = tryDescriptorOf(socket);
    try {
      if (fd !== null) host.widen(fd, SEND_BUFFER_BYTES);
    } catch (error) {
      host.logger.warn({ cause: String(error) }, 'a stream keeps the usual send buffer');
    }
  }

  /**
   * A committed batch is one unit; the stream ends when bytes of the one before are still here (STR-11,
   * STR-12). Whether the socket takes more shows when it is polled, and several units may come before
   * that: hence the turns in between.
   */
  #unitArrived(frames: Uint8Array, records: number, rows: RowRange): void {
    if (this.#held.isOld(rows)) return;
    this.#units.push({ frames, records });
    if (this.#units.length === 1) this.#offerUnits(0);
  }

  #offerUnits(turns: number): void {
    for (let unit = this.#units[0]; unit !== undefined; unit = this.#units[0]) {
      const blocked = this.#options.socket.writableLength > 0;
      if (blocked && turns < POLL_TURNS) {
        setImmediate(() => this.#offerUnits(turns + 1));
        return;
      }
      // Out of the line first: the call may close the stream.
      this.#units.shift();
      this.#offered = unit.frames;
      this.#options.onUnit(unit.records, blocked);
      this.#offered = null;
      turns = 0;
    }
  }
}
