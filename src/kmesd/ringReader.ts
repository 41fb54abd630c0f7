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

/**
 * Reads the events of a ring file that nobody writes to meanwhile, oldest first, from position
 * `from` or the tail, whichever is later. It follows none of the lapping rules of KMES-117..126:
 * only the writer itself, between its own writes, may use it. Ends early at an insane event.
 */
export function* readRing(path: string, from = 0n): Generator<StoredEvent> {
  const fd = openSync(path, 'r');
  try {
    const page = read(fd, 0, 128);
    const capacity = Number(page.readBigUInt64LE(16));
    const writePos = page.readBigUInt64LE(64);
    const tailPos = page.readBigUInt64LE(72);
    let position = from > tailPos && from <= writePos ? from : tailPos;
    while (position < writePos) {
      const prefix = readData(fd, capacity, position, 8);
      const size = prefix.readUInt32LE(0);
      if (size < FIXED_HEADER || BigInt(size) > writePos - position || size > capacity) return;
      position += BigInt(size);
      const event = decodeEvent(readData(fd, capacity, position - BigInt(size), size), position);
      if (event === null) return;
      yield event;
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
