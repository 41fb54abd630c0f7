import { closeSync, openSync, readSync } from 'node:fs';

/** One event read back from a ring file. */
export interface StoredEvent {
  /** Ring position just behind the event. */
  readonly end: bigint;
  readonly timestamp: bigint;
  readonly sequence: bigint;
  readonly cpu: number;
  readonly origin: number;
  readonly effectiveToken: Uint8Array;
  readonly trueToken: Uint8Array;
  readonly process: Uint8Array;
  readonly type: string;
  readonly payload: Uint8Array;
}

const DATA_OFFSET = 8192;
const FIXED_HEADER = 77;
/** Bytes read from the file at once. */
const WINDOW_BYTES = 1 << 18;

/**
 * Reads the events of a ring file that nobody writes to meanwhile, oldest first, from position
 * `from` or the tail, whichever is later. It follows none of the lapping rules of KMES-117..126:
 * only the writer itself, between its own writes, may use it. Ends early at an insane event.
 */
export function* readRing(path: string, from = 0n): Generator<StoredEvent> {
  for (const { data, position, size } of placesOf(path, from)) {
    const event = decodeEvent(data.bytes(position, size), position + BigInt(size));
    if (event === null) return;
    yield event;
  }
}

/**
 * Timestamp of the newest event of a ring file, null when it holds none. Events are found from the tail
 * on only, so it looks at each one. For whom, see {@link readRing}.
 */
export function newestTimestamp(path: string): bigint | null {
  let newest: bigint | null = null;
  for (const { data, position } of placesOf(path, 0n)) {
    newest = data.bytes(position, FIXED_HEADER).readBigUInt64LE(8);
  }
  return newest;
}

/** Where the events lie, one after the other. */
function* placesOf(
  path: string,
  from: bigint,
): Generator<{ data: RingData; position: bigint; size: number }> {
  const fd = openSync(path, 'r');
  try {
    const data = new RingData(fd);
    const { tailPos, writePos, capacity } = data;
    let position = from > tailPos && from <= writePos ? from : tailPos;
    while (position < writePos) {
      const left = writePos - position;
      const size = left < FIXED_HEADER ? 0 : data.bytes(position, FIXED_HEADER).readUInt32LE(0);
      if (size < FIXED_HEADER || BigInt(size) > left || size > capacity) return;
      yield { data, position, size };
      position += BigInt(size);
    }
  } finally {
    closeSync(fd);
  }
}

function decodeEvent(bytes: Buffer, end: bigint): StoredEvent | null {
  const headerSize = bytes.readUInt32LE(4);
  const typeLength = bytes.readUInt16LE(75);
  if (headerSize < FIXED_HEADER + typeLength || headerSize > bytes.length) return null;
  return {
    end,
    timestamp: bytes.readBigUInt64LE(8),
    sequence: bytes.readBigUInt64LE(16),
    cpu: bytes.readUInt16LE(24),
    origin: bytes.readUInt8(26),
    effectiveToken: bytes.subarray(27, 43),
    trueToken: bytes.subarray(43, 59),
    process: bytes.subarray(59, 75),
    type: bytes.subarray(FIXED_HEADER, FIXED_HEADER + typeLength).toString('utf8'),
    payload: bytes.subarray(headerSize),
  };
}

/** The data of an open ring file, read a window at a time. */
class RingData {
  readonly #fd: number;
  readonly capacity: number;
  readonly writePos: bigint;
  readonly tailPos: bigint;
  #window: Buffer = Buffer.alloc(0);
  /** Ring position of the window. */
  #start = 0n;

  constructor(fd: number) {
    const page = read(fd, 0, 128);
    this.#fd = fd;
    this.capacity = Number(page.readBigUInt64LE(16));
    this.writePos = page.readBigUInt64LE(64);
    this.tailPos = page.readBigUInt64LE(72);
  }

  /** Bytes before the write position; they stay as they are when others are asked for. */
  bytes(position: bigint, length: number): Buffer {
    const offset = Number(position - this.#start);
    if (offset >= 0 && offset + length <= this.#window.length)
      return this.#window.subarray(offset, offset + length);
    const ahead = Math.min(WINDOW_BYTES, this.capacity, Number(this.writePos - position));
    this.#window = readData(this.#fd, this.capacity, position, Math.max(length, ahead));
    this.#start = position;
    return this.#window.subarray(0, length);
  }
}

/** The data bytes from a ring position on; the file holds them once, so a run may wrap. */
function readData(fd: number, capacity: number, position: bigint, length: number): Buffer {
  const offset = Number(position & BigInt(capacity - 1));
  const straight = Math.min(length, capacity - offset);
  const head = read(fd, DATA_OFFSET + offset, straight);
  return straight === length ? head : Buffer.concat([head, read(fd, DATA_OFFSET, length - straight)]);
}

function read(fd: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let done = 0; done < length; ) {
    const count = readSync(fd, bytes, done, length - done, offset + done);
    if (count === 0) throw new Error('the ring file is shorter than its metadata says');
    done += count;
  }
  return bytes;
}
