/**
 * A strict msgpack reader for bytes that come from outside.
 *
 * Two things set it apart from a general decoder. It never allocates by a declared count or length,
 * and walks nested values without recursion, so hostile input costs no more than its own bytes. And
 * it is lossless: integers are bigint, floats are number, maps are Map, so `1` and `1.0` stay
 * different, 64-bit values keep their digits, and keys such as `__proto__` or `7` are mere keys.
 */
import { isUtf8 } from 'node:buffer';

/** An extension value, passed on untouched. */
export class MsgpackExt {
  constructor(
    readonly type: number,
    readonly data: Uint8Array,
  ) {}
}

/** bigint: integer, number: float, Uint8Array: binary. In maps the first of two equal keys wins (QL-44). */
export type MsgpackValue =
  | null
  | boolean
  | bigint
  | number
  | string
  | Uint8Array
  | MsgpackExt
  | readonly MsgpackValue[]
  | MsgpackMap;
export type MsgpackMap = ReadonlyMap<MsgpackValue, MsgpackValue>;

/** The bytes are not well-formed; `offset` counts from the first byte given to the reader. */
export class MsgpackError extends Error {
  override readonly name = 'MsgpackError';
  constructor(
    message: string,
    readonly offset: number,
  ) {
    super(`${message} at byte ${offset}`);
  }
}

/** Deepest nesting `MsgpackReader.value` builds; event payloads are at most 32 deep (KMES). */
export const MAX_VALUE_DEPTH = 128;

type Scalar = null | boolean | bigint | number | string | Uint8Array | MsgpackExt;
type Token =
  | { readonly kind: 'scalar'; readonly value: Scalar }
  | { readonly kind: 'array' | 'map'; readonly count: number };

const scalar = (value: Scalar): Token => ({ kind: 'scalar', value });

/** A cursor over one buffer. Every method throws {@link MsgpackError} on malformed input. */
export class MsgpackReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Index of the next unread byte. */
  get offset(): number {
    return this.#at;
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** Entries of the map that begins here, or null (nothing consumed) when it is no map. */
  tryMap(): number | null {
    return this.#tryContainer('map');
  }

  /** Elements of the array that begins here, or null (nothing consumed) when it is no array. */
  tryArray(): number | null {
    return this.#tryContainer('array');
  }

  /** The string that begins here, or null (nothing consumed) when the value is no string. */
  tryString(): string | null {
    const before = this.#at;
    const token = this.#token();
    if (token.kind === 'scalar' && typeof token.value === 'string') return token.value;
    this.#at = before;
    return null;
  }

  /** Passes over one value of any size and depth, checking it, and returns its bytes (a view). */
  skip(): Uint8Array {
    const from = this.#at;
    for (let pending = 1; pending > 0; ) {
      // Every value takes a byte, which also bounds what a declared count can do.
      if (pending > this.#bytes.length - this.#at) throw this.#cut();
      const token = this.#token();
      pending -= 1;
      if (token.kind === 'array') pending += token.count;
      else if (token.kind === 'map') pending += 2 * token.count;
    }
    return this.#bytes.subarray(from, this.#at);
  }

  /** Builds one value, at most {@link MAX_VALUE_DEPTH} containers deep. */
  value(depth = 0): MsgpackValue {
    const token = this.#token();
    if (token.kind === 'scalar') return token.value;
    if (depth >= MAX_VALUE_DEPTH) throw new MsgpackError('nesting too deep', this.#at);
    if (token.kind === 'array') {
      const items: MsgpackValue[] = [];
      for (let i = 0; i < token.count; i++) items.push(this.value(depth + 1));
      return items;
    }
    const map = new Map<MsgpackValue, MsgpackValue>();
    for (let i = 0; i < token.count; i++) {
      const key = this.value(depth + 1);
      const value = this.value(depth + 1);
      if (!map.has(key)) map.set(key, value);
    }
    return map;
  }

  #tryContainer(kind: 'array' | 'map'): number | null {
    const before = this.#at;
    const token = this.#token();
    if (token.kind === kind) return token.count;
    this.#at = before;
    return null;
  }

  #cut(): MsgpackError {
    return new MsgpackError('msgpack value is cut short', this.#bytes.length);
  }

  /** Moves past `count` bytes and returns where they began. */
  #advance(count: number): number {
    const from = this.#at;
    if (count > this.#bytes.length - from) throw this.#cut();
    this.#at = from + count;
    return from;
  }

  #view(count: number): Buffer {
    const from = this.#advance(count);
    return this.#bytes.subarray(from, from + count);
  }

  #text(count: number): Token {
    const from = this.#at;
    const view = this.#view(count);
    if (!isUtf8(view)) throw new MsgpackError('string is not valid UTF-8', from);
    return scalar(view.toString('utf8'));
  }

  #ext(count: number): Token {
    const type = this.#bytes.readInt8(this.#advance(1));
    return scalar(new MsgpackExt(type, this.#view(count)));
  }

  #uint(width: 1 | 2 | 4): number {
    return this.#bytes.readUIntBE(this.#advance(width), width);
  }

  #token(): Token {
    const bytes = this.#bytes;
    const first = bytes[this.#advance(1)] ?? 0;
    if (first <= 0x7f) return scalar(BigInt(first));
    if (first >= 0xe0) return scalar(BigInt(first - 0x100));
    if (first <= 0x8f) return { kind: 'map', count: first & 0x0f };
    if (first <= 0x9f) return { kind: 'array', count: first & 0x0f };
    if (first <= 0xbf) return this.#text(first & 0x1f);
    switch (first) {
      case 0xc0:
        return scalar(null);
      case 0xc2:
        return scalar(false);
      case 0xc3:
        return scalar(true);
      case 0xc4:
        return scalar(this.#view(this.#uint(1)));
      case 0xc5:
        return scalar(this.#view(this.#uint(2)));
      case 0xc6:
        return scalar(this.#view(this.#uint(4)));
      case 0xc7:
        return this.#ext(this.#uint(1));
      case 0xc8:
        return this.#ext(this.#uint(2));
      case 0xc9:
        return this.#ext(this.#uint(4));
      case 0xca:
        return scalar(bytes.readFloatBE(this.#advance(4)));
      case 0xcb:
        return scalar(bytes.readDoubleBE(this.#advance(8)));
      case 0xcc:
        return scalar(BigInt(this.#uint(1)));
      case 0xcd:
        return scalar(BigInt(this.#uint(2)));
      case 0xce:
        return scalar(BigInt(this.#uint(4)));
      case 0xcf:
        return scalar(bytes.readBigUInt64BE(this.#advance(8)));
      case 0xd0:
        return scalar(BigInt(bytes.readInt8(this.#advance(1))));
      case 0xd1:
        return scalar(BigInt(bytes.readInt16BE(this.#advance(2))));
      case 0xd2:
        return scalar(BigInt(bytes.readInt32BE(this.#advance(4))));
      case 0xd3:
        return scalar(bytes.readBigInt64BE(this.#advance(8)));
      case 0xd4:
      case 0xd5:
      case 0xd6:
      case 0xd7:
      case 0xd8:
        return this.#ext(1 << (first - 0xd4));
      case 0xd9:
        return this.#text(this.#uint(1));
      case 0xda:
        return this.#text(this.#uint(2));
      case 0xdb:
        return this.#text(this.#uint(4));
      case 0xdc:
        return { kind: 'array', count: this.#uint(2) };
      case 0xdd:
        return { kind: 'array', count: this.#uint(4) };
      case 0xde:
        return { kind: 'map', count: this.#uint(2) };
      case 0xdf:
        return { kind: 'map', count: this.#uint(4) };
      default:
        throw new MsgpackError('byte 0xc1 is not msgpack', this.#at - 1);
    }
  }
}
