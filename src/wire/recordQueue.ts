/**
 * Encoded records on their way out: a ring of bytes that grows to its limit and no further. When it is
 * full the oldest records make room for new ones (LOG-66, LOG-69).
 */

/** A record is kept with its length before it, a u32. */
const LENGTH_BYTES = 4;
/** Array head of a datagram: one byte up to 15 records, three up to 65535, five beyond. */
const MAX_HEAD_BYTES = 5;
const FIRST_BYTES = 4096;

/** The oldest records as they go into one datagram. */
export interface PackedRecords {
  /** One msgpack array of the records, or the record itself when it is alone. Valid until the next call. */
  readonly datagram: Uint8Array;
  readonly records: number;
}

export class RecordQueue {
  readonly limitBytes: number;
  #ring = Buffer.allocUnsafe(0);
  #head = 0;
  #used = 0;
  #records = 0;
  #datagram = Buffer.allocUnsafe(0);

  /** @param limitBytes bytes held at most, four more per record than its encoding has */
  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  get records(): number {
    return this.#records;
  }

  /** Bytes held. */
  get bytes(): number {
    return this.#used;
  }

  /**
   * Appends a copy of a record, one msgpack map.
   * @returns how many records were lost for it: the oldest ones, or itself when it does not fit at all
   */
  push(record: Uint8Array): number {
    const needed = LENGTH_BYTES + record.length;
    if (needed > this.limitBytes) return 1;
    const before = this.#records;
    while (this.#used + needed > this.limitBytes) this.drop(1);
    const lost = before - this.#records;
    if (this.#used + needed > this.#ring.length) this.#grow(this.#used + needed);
    this.#writeLength(record.length);
    this.#write(record);
    this.#records++;
    return lost;
  }

  /** The oldest records that fit into `maxBytes`; the oldest one alone when even it does not. Null: empty. */
  peek(maxBytes: number): PackedRecords | null {
    if (this.#records === 0) return null;
    const { records, bytes } = this.#measure(maxBytes);
    const room = MAX_HEAD_BYTES + bytes;
    if (this.#datagram.length < room) this.#datagram = Buffer.allocUnsafe(Math.max(room, FIRST_BYTES));
    const datagram = this.#datagram;
    let from = 0;
    let to = MAX_HEAD_BYTES;
    for (let i = 0; i < records; i++) {
      const length = this.#lengthAt(from);
      this.#copy(from + LENGTH_BYTES, length, datagram, to);
      from += LENGTH_BYTES + length;
      to += length;
    }
    return { datagram: datagram.subarray(writeHead(datagram, records), to), records };
  }

  /** Forgets the oldest records. */
  drop(records: number): void {
    for (let i = 0; i < records && this.#records > 0; i++) {
      const size = LENGTH_BYTES + this.#lengthAt(0);
      this.#head = (this.#head + size) % this.#ring.length;
      this.#used -= size;
      this.#records--;
    }
  }

  #measure(maxBytes: number): { readonly records: number; readonly bytes: number } {
    let records = 0;
    let bytes = 0;
    for (let from = 0; records < this.#records; records++) {
      const length = this.#lengthAt(from);
      if (records > 0 && MAX_HEAD_BYTES + bytes + length > maxBytes) break;
      bytes += length;
      from += LENGTH_BYTES + length;
    }
    return { records, bytes };
  }

  #grow(needed: number): void {
    const size = Math.min(this.limitBytes, Math.max(needed, 2 * this.#ring.length, FIRST_BYTES));
    const grown = Buffer.allocUnsafe(size);
    this.#copy(0, this.#used, grown, 0);
    this.#ring = grown;
    this.#head = 0;
  }

  #writeLength(length: number): void {
    for (let shift = 24; shift >= 0; shift -= 8) {
      this.#ring[(this.#head + this.#used) % this.#ring.length] = (length >>> shift) & 0xff;
      this.#used++;
    }
  }

  #write(bytes: Uint8Array): void {
    const at = (this.#head + this.#used) % this.#ring.length;
    const first = Math.min(bytes.length, this.#ring.length - at);
    this.#ring.set(bytes.subarray(0, first), at);
    this.#ring.set(bytes.subarray(first), 0);
    this.#used += bytes.length;
  }

  #lengthAt(offset: number): number {
    let length = 0;
    for (let i = 0; i < LENGTH_BYTES; i++)
      length = length * 256 + (this.#ring[(this.#head + offset + i) % this.#ring.length] ?? 0);
    return length;
  }

  #copy(offset: number, length: number, target: Buffer, at: number): void {
    if (length === 0) return;
    const start = (this.#head + offset) % this.#ring.length;
    const first = Math.min(length, this.#ring.length - start);
    this.#ring.copy(target, at, start, start + first);
    this.#ring.copy(target, at + first, 0, length - first);
  }
}

/** Writes the array head so that it ends at `MAX_HEAD_BYTES`; returns where the datagram begins. */
function writeHead(datagram: Buffer, records: number): number {
  if (records === 1) return MAX_HEAD_BYTES;
  if (records < 16) return datagram.writeUInt8(0x90 | records, MAX_HEAD_BYTES - 1) - 1;
  if (records < 65_536) {
    datagram.writeUInt16BE(records, MAX_HEAD_BYTES - 2);
    return datagram.writeUInt8(0xdc, MAX_HEAD_BYTES - 3) - 1;
  }
  datagram.writeUInt32BE(records, 1);
  return datagram.writeUInt8(0xdd, 0) - 1;
}
