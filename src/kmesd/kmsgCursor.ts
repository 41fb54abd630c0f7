import { closeSync, constants, fstatSync, openSync, readFileSync, writeSync } from 'node:fs';
import { isNilGuid } from '../host/guid.js';
import { decode } from '../host/msgpack.js';
import { readRing } from './ringReader.js';
import type { Ring } from './rings.js';

const MAX_LINE_BYTES = 512;

/** Event type of a kernel log record. */
export const KMSG_TYPE = 'linux.kmsg';
/** Event type of overwritten kernel log records; payload {first, last, count}. */
export const KMSG_LOST_TYPE = 'linux.kmsg.lost';

/**
 * The last kernel log record that is in the rings.
 *
 * Emitting a record and writing the cursor are two steps, and kmesd can die between them. The ring
 * is the truth: on open the events behind the saved ring position are read back, and the highest
 * record number found there wins. Nothing else is written between the two steps, so a batch that
 * got into the ring without its cursor is still there. Hence no record is emitted twice and none is
 * skipped.
 *
 * The saved line, always of one length so that one write replaces it:
 * `<kernel boot id> <record number> <ring generation> <ring position>\n`.
 */
export class KmsgCursor {
  readonly #fd: number;
  readonly #ring: Ring;
  readonly #kernelBoot: string;
  #last: number | null;

  private constructor(fd: number, ring: Ring, kernelBoot: string, last: number | null) {
    this.#fd = fd;
    this.#ring = ring;
    this.#kernelBoot = kernelBoot;
    this.#last = last;
  }

  /**
   * Recovers the cursor in `path` for `ring`, the only ring the source ever writes to. `kernelBoot`
   * is the kernel's own boot ID: record numbers of another kernel run mean nothing.
   */
  static open(path: string, ring: Ring, kernelBoot: string): KmsgCursor {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      const saved = parse(fstatSync(fd).size > MAX_LINE_BYTES ? '' : readFileSync(fd, 'latin1'));
      const foreign = saved !== null && saved.kernelBoot !== kernelBoot;
      // What the ring holds up to here is from the other kernel run, like the cursor.
      const cursor = new KmsgCursor(fd, ring, kernelBoot, foreign ? null : recover(ring, saved));
      cursor.#save();
      return cursor;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Record number of the last record emitted in this run of the kernel, or null. */
  get last(): number | null {
    return this.#last;
  }

  /** Notes that everything up to `sequence` is in the ring. Call right after the write. */
  advance(sequence: number): void {
    this.#last = sequence;
    this.#save();
  }

  close(): void {
    closeSync(this.#fd);
  }

  #save(): void {
    const { generation, writePos } = this.#ring.status();
    const number = this.#last === null ? '-'.repeat(20) : String(this.#last).padStart(20, '0');
    const line = `${this.#kernelBoot} ${number} ${pad(generation)} ${pad(writePos)}\n`;
    writeSync(this.#fd, line, 0, 'latin1');
  }
}

interface Saved {
  readonly kernelBoot: string;
  readonly last: number | null;
  readonly generation: bigint;
  readonly position: bigint;
}

function parse(text: string): Saved | null {
  const match = /^(\S{1,64}) ([0-9]{20}|-{20}) ([0-9]{20}) ([0-9]{20})\n$/.exec(text);
  if (match === null) return null;
  const [, kernelBoot = '', number = '', generation = '', position = ''] = match;
  return {
    kernelBoot,
    last: number.startsWith('-') ? null : Number(number),
    generation: BigInt(generation),
    position: BigInt(position),
  };
}

function recover(ring: Ring, saved: Saved | null): number | null {
  // A replaced ring has its events elsewhere: look through all of it.
  const from = saved !== null && saved.generation === ring.status().generation ? saved.position : 0n;
  let last = saved?.last ?? null;
  for (const event of readRing(ring.path, from)) {
    // Events of clients carry their user's token: only the source's own are anonymous.
    if (event.type !== KMSG_TYPE || !isNilGuid(event.effectiveToken)) continue;
    const sequence = recordNumber(event.payload);
    if (sequence !== null && (last === null || sequence > last)) last = sequence;
  }
  return last;
}

function recordNumber(payload: Uint8Array): number | null {
  let value: unknown;
  try {
    value = decode(payload);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const sequence: unknown = Reflect.get(value, 'sequence');
  return typeof sequence === 'number' && Number.isSafeInteger(sequence) ? sequence : null;
}

function pad(value: bigint): string {
  return String(value).padStart(20, '0');
}
