import { closeSync, constants, openSync, readSync } from 'node:fs';
import { encode } from '../host/msgpack.js';
import type { NativeAddon, ProducerEvent } from '../native/addon.js';
import { HEADER_BYTES, ORIGIN_USERSPACE } from './emission.js';
import { errnoOf, reasonOf } from './failure.js';
import { NO_IDENTITY } from './identity.js';
import { KMSG_LOST_TYPE, KMSG_TYPE, type KmsgCursor } from './kmsgCursor.js';
import { kmsgPayload, parseKmsgRecord } from './kmsgRecord.js';
import type { Report } from './report.js';
import type { Ring } from './rings.js';

/** Most records emitted at one go; in between, clients get their turn. */
const MAX_BATCH_RECORDS = 256;
/** The kernel's largest extended record is 8192 bytes; read(2) fails with EINVAL for a smaller buffer. */
const RECORD_BUFFER_BYTES = 16_384;

const KMSG_TYPE_BYTES = Buffer.from(KMSG_TYPE);
const KMSG_LOST_TYPE_BYTES = Buffer.from(KMSG_LOST_TYPE);

/** A kernel log, one record per read. */
export interface KmsgDevice {
  /** The next record, valid until the next call; null when there is none; 'overwritten' when some were lost. */
  read(): Uint8Array | 'overwritten' | null;
  /** Calls back whenever there may be something to read, until the returned function is called. */
  watch(callback: () => void): () => void;
  close(): void;
}

/** Opens a kernel log at the oldest record it still holds. Throws the error of open(2). */
export function openKmsgDevice(native: Pick<NativeAddon, 'watchReadable'>, path: string): KmsgDevice {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const buffer = Buffer.alloc(RECORD_BUFFER_BYTES);
  return {
    read() {
      try {
        const length = readSync(fd, buffer, 0, buffer.length, null);
        return length === 0 ? null : buffer.subarray(0, length);
      } catch (error) {
        if (errnoOf(error) === 'EAGAIN') return null;
        if (errnoOf(error) === 'EPIPE') return 'overwritten';
        throw error;
      }
    },
    watch: (callback) => native.watchReadable(fd, callback),
    close: () => closeSync(fd),
  };
}

/**
 * Turns kernel log records into `linux.kmsg` events, each exactly once per boot: it begins with the
 * oldest record the kernel holds and goes on behind the cursor after a restart. Records the kernel
 * overwrote first become one `linux.kmsg.lost` event with their numbers.
 */
export class KmsgSource {
  readonly #device: KmsgDevice;
  readonly #ring: Ring;
  readonly #cursor: KmsgCursor;
  readonly #report: Report;
  #unwatch: (() => void) | null = null;
  #malformed = 0;
  #overwritten = false;

  constructor(device: KmsgDevice, ring: Ring, cursor: KmsgCursor, report: Report) {
    this.#device = device;
    this.#ring = ring;
    this.#cursor = cursor;
    this.#report = report;
  }

  /** Begins reading on readiness. */
  start(): void {
    this.#unwatch = this.#device.watch(() => this.#readable());
  }

  /** Safe twice. */
  stop(): void {
    if (this.#unwatch === null) return;
    this.#unwatch();
    this.#unwatch = null;
    this.#device.close();
    this.#cursor.close();
  }

  /** Emits one bounded batch; returns how many records were taken from the device. */
  drain(): number {
    const events: ProducerEvent[] = [];
    // Staying well below the ring leaves its readers a chance to keep up with a long backlog.
    let room = this.#ring.capacity / 4;
    let last = this.#cursor.last;
    let taken = 0;
    while (taken < MAX_BATCH_RECORDS && room > 0) {
      const bytes = this.#device.read();
      if (bytes === null) break;
      taken += 1;
      if (bytes === 'overwritten') {
        // The number of the next record tells how many are missing.
        this.#overwritten = true;
        continue;
      }
      const record = parseKmsgRecord(bytes);
      if (record === null) {
        this.#noteMalformed();
        continue;
      }
      const expected = last === null ? 0 : last + 1;
      if (record.sequence < expected) continue;
      if (record.sequence > expected) events.push(lostEvent(expected, record.sequence - 1));
      const payload = encode(kmsgPayload(record));
      events.push({ type: KMSG_TYPE_BYTES, payload });
      room -= HEADER_BYTES + KMSG_TYPE_BYTES.length + payload.length;
      last = record.sequence;
    }
    if (events.length > 0 && last !== null) {
      this.#ring.write(ORIGIN_USERSPACE, events, NO_IDENTITY);
      this.#cursor.advance(last);
    }
    return taken;
  }

  #readable(): void {
    try {
      this.drain();
      if (this.#overwritten) this.#watchAgain();
    } catch (error) {
      this.stop();
      this.#report.error(`the kernel log is no longer read: ${reasonOf(error)}`);
    }
  }

  /** The kernel signals overwritten records as an error on the descriptor, at which the event loop stops watching. */
  #watchAgain(): void {
    this.#overwritten = false;
    this.#unwatch?.();
    this.#unwatch = this.#device.watch(() => this.#readable());
  }

  #noteMalformed(): void {
    this.#malformed += 1;
    if (this.#malformed === 1) this.#report.warn('a kernel log record could not be parsed and was left out');
  }
}

function lostEvent(first: number, last: number): ProducerEvent {
  return { type: KMSG_LOST_TYPE_BYTES, payload: encode({ first, last, count: last - first + 1 }) };
}
