/**
 * Programs that emit through kmesd and know which of their events it acknowledged: those must never be
 * lost, whatever is killed afterwards.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { encode } from '@msgpack/msgpack';
import { EmitClient, EmitError } from '../../src/kmesd/emitClient.js';

export const SENDER_TYPE = 'soak.emit';
const PAUSE_MS = 4;
const RECONNECT_MS = 5;
const MAX_BATCH = 12;

export class Sender {
  /** Ordinals acknowledged since the last call of `takeAcknowledged`. */
  #acknowledged: number[] = [];
  #ordinal = 0;
  #running: Promise<void> | null = null;
  #stopped = true;

  constructor(
    readonly id: number,
    readonly socket: string,
  ) {}

  start(): void {
    if (this.#running !== null) return;
    this.#stopped = false;
    this.#running = this.#run();
  }

  /** Resolves when nothing is on its way any more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
    this.#running = null;
  }

  takeAcknowledged(): number[] {
    const taken = this.#acknowledged;
    this.#acknowledged = [];
    return taken;
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      try {
        const client = await EmitClient.connect(this.socket);
        try {
          while (!this.#stopped) {
            await this.#emit(client);
            await pause(PAUSE_MS);
          }
        } finally {
          client.close();
        }
      } catch (error) {
        // kmesd is gone, or not there yet; what it had not answered may have been written or not.
        if (!(error instanceof EmitError)) throw error;
        await pause(RECONNECT_MS);
      }
    }
  }

  async #emit(client: EmitClient): Promise<void> {
    const ordinals = Array.from({ length: 1 + (this.#ordinal % MAX_BATCH) }, () => ++this.#ordinal);
    const entries = ordinals.map((ordinal) => ({
      type: SENDER_TYPE,
      payload: encode({ sender: this.id, ordinal }),
    }));
    try {
      await client.emitBatch(entries);
      this.#acknowledged.push(...ordinals);
    } catch (error) {
      if (error instanceof EmitError) this.#acknowledged.push(...ordinals.slice(0, error.emitted));
      throw error;
    }
  }
}
