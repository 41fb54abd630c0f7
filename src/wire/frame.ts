/**
 * Frames of the query socket: a u32 little-endian byte count, then that many payload bytes (WIRE-2).
 *
 * The decoder judges a frame by its header alone, so an oversize frame is refused before any of its
 * payload is kept (WIRE-3), and it allocates for bytes that arrived, never for bytes announced.
 */

/** Bytes of the length prefix. */
export const FRAME_HEADER_BYTES = 4;

/** The peer announced a frame longer than the decoder accepts. */
export class FrameTooLong extends Error {
  override readonly name = 'FrameTooLong';
  constructor(
    /** Payload bytes the header announced. */
    readonly announced: number,
    /** Payload bytes the decoder accepts. */
    readonly limit: number,
  ) {
    super(`frame of ${announced} bytes exceeds the limit of ${limit} bytes`);
  }
}

/** One frame around a payload, ready to be written. */
export function encodeFrame(payload: Uint8Array): Uint8Array {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length);
  frame.writeUInt32LE(payload.length, 0);
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

/**
 * Chunks and frames from this size on are not copied where that can be avoided; buffers above it are
 * given back as soon as they are empty.
 */
const LARGE_BYTES = 16 * 1024;

const NOTHING: Buffer<ArrayBufferLike> = Buffer.alloc(0);

/**
 * Cuts a byte stream into frames, whatever the chunk borders.
 *
 * Small chunks are collected in one growing buffer, so that a peer that sends byte by byte costs no
 * more than its bytes. A large chunk that arrives at a frame border is kept as it is, and a large
 * frame is handed out with the buffer it was collected in.
 *
 * @example
 * const decoder = new FrameDecoder(65536);
 * decoder.push(chunk);
 * for (let payload = decoder.next(); payload !== null; payload = decoder.next()) handle(payload);
 */
export class FrameDecoder {
  #bytes = NOTHING;
  #start = 0;
  #end = 0;
  /** Whether `#bytes` is ours to write to, and not a chunk that was kept. */
  #own = true;

  /** @param limit largest accepted payload in bytes, itself included (WIRE-3) */
  constructor(readonly limit: number) {}

  /** Bytes received but not yet handed out. Non-zero at the end of the stream means a cut frame. */
  get buffered(): number {
    return this.#end - this.#start;
  }

  /** Takes the next bytes of the stream. A large chunk may be kept: the caller must not write to it any more. */
  push(chunk: Uint8Array): void {
    if (this.buffered === 0 && chunk.length >= LARGE_BYTES) {
      this.#use(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length), chunk.length, false);
      return;
    }
    if (!this.#own || this.#end + chunk.length > this.#bytes.length) this.#makeRoom(chunk.length);
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /**
   * The payload of the next complete frame, or null until more bytes are pushed. It does not change
   * when more is pushed.
   * @throws {FrameTooLong} as soon as the header shows a length above the limit; the stream is then unusable
   */
  next(): Uint8Array | null {
    const length = this.#announced();
    if (length === null) return null;
    if (length > this.limit) throw new FrameTooLong(length, this.limit);
    const from = this.#start + FRAME_HEADER_BYTES;
    const to = from + length;
    if (this.#end < to) return null;
    const bytes = this.#bytes;
    this.#start = to;
    const last = to === this.#end;
    if (last && bytes.length >= LARGE_BYTES) this.#use(NOTHING, 0, true);
    // A view keeps the whole buffer alive: only for a frame that is most of it, and its last user.
    return last && length >= LARGE_BYTES && length >= bytes.length / 2
      ? bytes.subarray(from, to)
      : Uint8Array.prototype.slice.call(bytes, from, to);
  }

  /** Payload bytes of the frame at the start, once its header is there. */
  #announced(): number | null {
    return this.buffered < FRAME_HEADER_BYTES ? null : this.#bytes.readUInt32LE(this.#start);
  }

  #use(bytes: Buffer<ArrayBufferLike>, held: number, own: boolean): void {
    this.#bytes = bytes;
    this.#start = 0;
    this.#end = held;
    this.#own = own;
  }

  /** Makes the buffer writable with `count` free bytes at its end, by moving what is held or by growing. */
  #makeRoom(count: number): void {
    const needed = this.buffered + count;
    const grows = !this.#own || needed > this.#bytes.length / 2;
    const target = grows ? Buffer.allocUnsafe(this.#capacity(needed)) : this.#bytes;
    const held = this.#bytes.copy(target, 0, this.#start, this.#end);
    this.#use(target, held, true);
  }

  /** Twice what is needed now, but not beyond the end of the frame that is arriving. */
  #capacity(needed: number): number {
    const frame = FRAME_HEADER_BYTES + (this.#announced() ?? 0);
    return frame >= needed ? Math.min(2 * needed, frame) : 2 * needed;
  }
}
