/**
 * A reader's eye on an index build of one of its shards: it ends the build for the events it has handed
 * over, and at once when they become many (IDX-12, IDX-15).
 */
import type { BuildSignal } from '../../src/indexes/buildSignal.js';
import { type ChannelHandle, native } from '../../src/native/addon.js';

/** Share of a channel's room that counts as pressure (IDX-15). */
const PRESSING_SHARE = 0.25;
/** How often it is looked at while a build runs and events wait, ms. */
const LOOK_EVERY_MS = 10;

export class BuildWatch {
  readonly #channel: ChannelHandle;
  readonly #signal: BuildSignal;
  #timer: NodeJS.Timeout | null = null;

  constructor(channel: ChannelHandle, signal: BuildSignal) {
    this.#channel = channel;
    this.#signal = signal;
  }

  /** Events wait in the channel. */
  arrived(): void {
    if (!this.#signal.arrived()) return;
    this.#look();
    this.#timer ??= setInterval(() => this.#look(), LOOK_EVERY_MS).unref();
  }

  /** The ring fills up. */
  pressed(): void {
    this.#signal.press();
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  #look(): void {
    if (!this.#signal.building) this.close();
    else if (this.#isPressing()) this.#signal.press();
  }

  #isPressing(): boolean {
    try {
      const { rows, maxRows, blocked } = native.channelStatus(this.#channel);
      // Blocked: its bytes are used up, whatever the number of rows.
      return blocked > 0 || rows >= maxRows * PRESSING_SHARE;
    } catch {
      // Closed: nobody waits any more.
      return true;
    }
  }
}
