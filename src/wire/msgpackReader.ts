/**
 * A strict msgpack reader for bytes that come from outside.
 *
 * Two things set it apart from a general decoder. It never allocates by a declared count or length,
 * and walks nested values without recursion, so hostile input costs no more than its own bytes. And
 * it is lossless: integers are bigint, floats are number, maps are Map, so `1` and `1.0` stay
 * different, 64-bit values keep their digits, and keys such as `__proto__` or `7` are mere keys.
 *
 * `next` and what goes with it give one value at a time, without an object for it: whoever makes something
 * else of the values (rows.ts) reads them that way.
 */
import { asKey, isText, isUtf8Text, TextCache } from './textCache.js';

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

/** What `MsgpackReader.next` came upon, and where its contents are. */
export const KIND = {
  nil: 0,
  false: 1,
  true: 2,
  /** A number that is exact as such: `number`. */
  integer: 3,
  /** An integer beyond that: `wide`. */
  wide: 4,
  /** `number`. */
  float: 5,
  /** `text()` or `key()`. */
  text: 6,
  /** `binary()`. */
  binary: 7,
  /** `extension()`. */
  extension: 8,
  /** `count` values follow. */
  array: 9,
  /** `count` pairs follow. */
  map: 10,
} as const;
export type Kind = (typeof KIND)[keyof typeof KIND];

const TWO_32 = 2 ** 32;

const TEXTS = new TextCache((text) => text);
const KEYS = new TextCache(asKey);

/** A cursor over one buffer. Every method throws {@link MsgpackError} on malformed input. */
export class MsgpackReader {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  #at = 0;
  /** The contents of a text, a binary or an extension. */
  #from = 0;
  #count = 0;
  #number = 0;
  #wide = 0n;
  #extensionType = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
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
    return this.#tryNext(KIND.map) ? this.#count : null;
  }

  /** Elements of the array that begins here, or null (nothing consumed) when it is no array. */
  tryArray(): number | null {
    return this.#tryNext(KIND.array) ? this.#count : null;
  }

  /** The string that begins here, or null (nothing consumed) when the value is no string. */
  tryString(): string | null {
    return this.#tryNext(KIND.text) ? this.key() : null;
  }

  #tryNext(kind: Kind): boolean {
    const before = this.#at;
    if (this.next() === kind) return true;
    this.#at = before;
    return false;
  }

  /** Passes over one value of any size and depth, checking it, and returns its bytes (a view). */
  skip(): Uint8Array {
    const from = this.#at;
    for (let pending = 1; pending > 0; ) {
      // Every value takes a byte, which also bounds what a declared count can do.
      if (pending > this.#bytes.length - this.#at) throw this.#cut();
      const kind = this.next();
      pending -= 1;
      if (kind === KIND.array) pending += this.#count;
      else if (kind === KIND.map) pending += 2 * this.#count;
      else if (kind === KIND.text && !isUtf8Text(this.#bytes, this.#from, this.#at)) throw this.#noText();
    }
    return this.#bytes.subarray(from, this.#at);
  }

  /** Builds one value, at most {@link MAX_VALUE_DEPTH} containers deep. */
  value(depth = 0): MsgpackValue {
    switch (this.next()) {
      case KIND.nil:
        return null;
      case KIND.false:
        return false;
      case KIND.true:
        return true;
      case KIND.integer:
        return BigInt(this.#number);
      case KIND.wide:
        return this.#wide;
      case KIND.float:
        return this.#number;
      case KIND.text:
        return this.text();
      case KIND.binary:
        return this.binary();
      case KIND.extension:
        return this.extension();
      case KIND.array: {
        const count = this.#count;
        this.checkDepth(depth);
        const items: MsgpackValue[] = [];
        for (let i = 0; i < count; i++) items.push(this.value(depth + 1));
        return items;
      }
      case KIND.map: {
        const count = this.#count;
        this.checkDepth(depth);
        const map = new Map<MsgpackValue, MsgpackValue>();
        for (let i = 0; i < count; i++) {
          const key = this.value(depth + 1);
          const value = this.value(depth + 1);
          if (!map.has(key)) map.set(key, value);
        }
        return map;
      }
    }
  }

  // One value at a time

  /** Entries of the map or elements of the array that `next` came upon. */
  get count(): number {
    return this.#count;
  }

  get number(): number {
    return this.#number;
  }

  get wide(): bigint {
    return this.#wide;
  }

  text(): string {
    return TEXTS.read(this.#bytes, this.#from, this.#at) ?? this.#refuseText();
  }

  /**
   * The text as the key of a map: its keys come again and again.
   * @param likely what it probably is, ASCII
   */
  key(likely = ''): string {
    if (isText(likely, this.#bytes, this.#from, this.#at)) return likely;
    return KEYS.read(this.#bytes, this.#from, this.#at) ?? this.#refuseText();
  }

  /** A view. */
  binary(): Uint8Array {
    return this.#bytes.subarray(this.#from, this.#at);
  }

  extension(): MsgpackExt {
    return new MsgpackExt(this.#extensionType, this.binary());
  }

  /** Refuses a container that is `depth` deep when that is too deep to build. */
  checkDepth(depth: number): void {
    if (depth >= MAX_VALUE_DEPTH) throw new MsgpackError('nesting too deep', this.#at);
  }

  /** Moves behind the next value, or into it when it is a map or an array. Text is not checked before it is read. */
  next(): Kind {
    const first = this.#bytes[this.#advance(1)] ?? 0;
    if (first <= 0x7f) return this.#integer(first);
    if (first >= 0xe0) return this.#integer(first - 0x100);
    if (first <= 0x8f) return this.#container(KIND.map, first & 0x0f);
    if (first <= 0x9f) return this.#container(KIND.array, first & 0x0f);
    if (first <= 0xbf) return this.#contents(KIND.text, first & 0x1f);
    switch (first) {
      case 0xc0:
        return KIND.nil;
      case 0xc2:
        return KIND.false;
      case 0xc3:
        return KIND.true;
      case 0xc4:
        return this.#contents(KIND.binary, this.#uint8());
      case 0xc5:
        return this.#contents(KIND.binary, this.#uint16());
      case 0xc6:
        return this.#contents(KIND.binary, this.#uint32());
      case 0xc7:
        return this.#extension(this.#uint8());
      case 0xc8:
        return this.#extension(this.#uint16());
      case 0xc9:
        return this.#extension(this.#uint32());
      case 0xca:
        return this.#float(this.#view.getFloat32(this.#advance(4)));
      case 0xcb:
        return this.#float(this.#view.getFloat64(this.#advance(8)));
      case 0xcc:
        return this.#integer(this.#uint8());
      case 0xcd:
        return this.#integer(this.#uint16());
      case 0xce:
        return this.#integer(this.#uint32());
      case 0xcf:
        return this.#uint64(this.#advance(8));
      case 0xd0:
        return this.#integer(this.#view.getInt8(this.#advance(1)));
      case 0xd1:
        return this.#integer(this.#view.getInt16(this.#advance(2)));
      case 0xd2:
        return this.#integer(this.#view.getInt32(this.#advance(4)));
      case 0xd3:
        return this.#int64(this.#advance(8));
      case 0xd4:
      case 0xd5:
      case 0xd6:
      case 0xd7:
      case 0xd8:
        return this.#extension(1 << (first - 0xd4));
      case 0xd9:
        return this.#contents(KIND.text, this.#uint8());
      case 0xda:
        return this.#contents(KIND.text, this.#uint16());
      case 0xdb:
        return this.#contents(KIND.text, this.#uint32());
      case 0xdc:
        return this.#container(KIND.array, this.#uint16());
      case 0xdd:
        return this.#container(KIND.array, this.#uint32());
      case 0xde:
        return this.#container(KIND.map, this.#uint16());
      case 0xdf:
        return this.#container(KIND.map, this.#uint32());
      default:
        throw new MsgpackError('byte 0xc1 is not msgpack', this.#at - 1);
    }
  }

  #integer(value: number): Kind {
    this.#number = value;
    return KIND.integer;
  }

  #float(value: number): Kind {
    this.#number = value;
    return KIND.float;
  }

  #uint64(at: number): Kind {
    const value = this.#view.getUint32(at) * TWO_32 + this.#view.getUint32(at + 4);
    if (Number.isSafeInteger(value)) return this.#integer(value);
    this.#wide = this.#view.getBigUint64(at);
    return KIND.wide;
  }

  #int64(at: number): Kind {
    const value = this.#view.getInt32(at) * TWO_32 + this.#view.getUint32(at + 4);
    if (Number.isSafeInteger(value)) return this.#integer(value);
    this.#wide = this.#view.getBigInt64(at);
    return KIND.wide;
  }

  #container(kind: Kind, count: number): Kind {
    this.#count = count;
    return kind;
  }

  #contents(kind: Kind, length: number): Kind {
    this.#from = this.#advance(length);
    return kind;
  }

  #extension(length: number): Kind {
    this.#extensionType = this.#view.getInt8(this.#advance(1));
    return this.#contents(KIND.extension, length);
  }

  #uint8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  #uint16(): number {
    return this.#view.getUint16(this.#advance(2));
  }

  #uint32(): number {
    return this.#view.getUint32(this.#advance(4));
  }

  /** Moves past `count` bytes and returns where they began. */
  #advance(count: number): number {
    const from = this.#at;
    if (count > this.#bytes.length - from) throw this.#cut();
    this.#at = from + count;
    return from;
  }

  #cut(): MsgpackError {
    return new MsgpackError('msgpack value is cut short', this.#bytes.length);
  }

  #noText(): MsgpackError {
    return new MsgpackError('string is not valid UTF-8', this.#from);
  }

  #refuseText(): never {
    throw this.#noText();
  }
}
