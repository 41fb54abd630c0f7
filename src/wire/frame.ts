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
 * Cuts a byte stream into frames, whatever the chunk borders.
 *
 * @example
 * const decoder = new FrameDecoder(65536);
 * decoder.push(chunk);
 * for (let payload = decoder.next(); payload !== null; payload = decoder.next()) handle(payload);
 */
export class FrameDecoder {
  #bytes = Buffer.alloc(0);
  #start = 0;
  #end = 0;

  /** @param limit largest accepted payload in bytes, itself included (WIRE-3) */
  constructor(readonly limit: number) {}

  /** Bytes received but not yet handed out. Non-zero at the end of the stream means a cut frame. */
  get buffered(): number {
    return this.#end - this.#start;
  }

  /** Takes the next bytes of the stream, copying them. */
  push(chunk: Uint8Array): void {
    if (this.#end + chunk.length > this.#bytes.length) this.#makeRoom(chunk.length);
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /**
   * The payload of the next complete frame, or null until more bytes are pushed.
   * @throws {FrameTooLong} as soon as the header shows a length above the limit; the stream is then unusable
   */
  next(): Uint8Array | null {
    if (this.buffered < FRAME_HEADER_BYTES) return null;
    const length = this.#bytes.readUInt32LE(this.#start);
    if (length > this.limit) throw new FrameTooLong(length, this.limit);
    const from = this.#start + FRAME_HEADER_BYTES;
    if (this.#end < from + length) return null;
    this.#start = from + length;
    return Uint8Array.prototype.slice.call(this.#bytes, from, from + length);
  }

  /** One growing buffer, not a list of chunks: a peer that sends byte by byte must not cost more than its bytes. */
  #makeRoom(count: number): void {
    const held = this.buffered;
    const target =
      held + count > this.#bytes.length / 2 ? Buffer.allocUnsafe(2 * (held + count)) : this.#bytes;
    this.#bytes.copy(target, 0, this.#start, this.#end);
    this.#bytes = target;
    this.#start = 0;
    this.#end = held;
  }
}
