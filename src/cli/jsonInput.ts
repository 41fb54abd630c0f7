/**
 * JSON on its way into an event payload. Unlike JSON.parse it keeps the digits of every integer of
 * 64 bits, and takes keys such as `__proto__` for mere keys.
 */
import { encode } from '../host/msgpack.js';

/** The text is no JSON; `offset` counts characters from 0. */
export class JsonInputError extends Error {
  override readonly name = 'JsonInputError';
  constructor(
    message: string,
    readonly offset: number,
  ) {
    super(`${message} at character ${offset + 1}`);
  }
}

export type JsonValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };

/** The nesting a payload may have (KMES MaxNestingDepth). */
export const MAX_INPUT_DEPTH = 32;

const MAX_UINT64 = 2n ** 64n - 1n;
const MIN_INT64 = -(2n ** 63n);
const BLANK = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const STRING = /"(?:[^"\\]+|\\.)*"/sy;
const WORDS: ReadonlyMap<string, null | boolean> = new Map<string, null | boolean>([
  ['null', null],
  ['true', true],
  ['false', false],
]);

/**
 * The msgpack bytes of a JSON text. Integers become msgpack integers of the smallest size that fits,
 * also beyond 2^53; what is written with fraction or exponent becomes a float64, unless it is a whole
 * number up to 2^53, which JSON does not tell from an integer.
 * @throws {JsonInputError}
 */
export function payloadFromJson(text: string): Uint8Array {
  return encode(parseJson(text), { useBigInt64: true, maxDepth: MAX_INPUT_DEPTH + 1 });
}

/** @throws {JsonInputError} */
export function parseJson(text: string): JsonValue {
  return new JsonInput(text).whole();
}

class JsonInput {
  #at = 0;
  constructor(readonly text: string) {}

  whole(): JsonValue {
    const value = this.#value(0);
    this.#match(BLANK);
    if (this.#at < this.text.length)
      throw new JsonInputError('unexpected text after the JSON value', this.#at);
    return value;
  }

  #value(depth: number): JsonValue {
    this.#match(BLANK);
    const from = this.#at;
    const next = this.text[from];
    if (next === undefined) throw new JsonInputError('JSON value expected', from);
    if (next === '{' || next === '[') {
      if (depth >= MAX_INPUT_DEPTH) throw new JsonInputError(`nesting deeper than ${MAX_INPUT_DEPTH}`, from);
      this.#at++;
      return next === '{' ? this.#object(depth) : this.#array(depth);
    }
    if (next === '"') return this.#string();
    const number = this.#match(NUMBER);
    if (number !== null && number[0] !== '') return numberValue(number, from);
    for (const [word, value] of WORDS) {
      if (this.text.startsWith(word, from)) {
        this.#at = from + word.length;
        return value;
      }
    }
    throw new JsonInputError('JSON value expected', from);
  }

  #object(depth: number): JsonValue {
    // No prototype: a key called __proto__ is a key like any other.
    const object: Record<string, JsonValue> = Object.create(null);
    for (let first = true; !this.#closes('}'); first = false) {
      if (!first) this.#expect(',');
      this.#match(BLANK);
      if (this.text[this.#at] !== '"') throw new JsonInputError('key in double quotes expected', this.#at);
      const key = this.#string();
      this.#expect(':');
      object[key] = this.#value(depth + 1);
    }
    return object;
  }

  #array(depth: number): JsonValue {
    const items: JsonValue[] = [];
    for (let first = true; !this.#closes(']'); first = false) {
      if (!first) this.#expect(',');
      items.push(this.#value(depth + 1));
    }
    return items;
  }

  #string(): string {
    const from = this.#at;
    const match = this.#match(STRING);
    if (match === null) throw new JsonInputError('string is not closed', from);
    const value = unescaped(match[0], from);
    if (/\p{Surrogate}/u.test(value)) throw new JsonInputError('string has half a surrogate pair', from);
    return value;
  }

  #closes(bracket: string): boolean {
    this.#match(BLANK);
    if (this.text[this.#at] !== bracket) return false;
    this.#at++;
    return true;
  }

  #expect(character: string): void {
    this.#match(BLANK);
    if (this.text[this.#at] !== character) throw new JsonInputError(`'${character}' expected`, this.#at);
    this.#at++;
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.text);
    if (match !== null) this.#at += match[0].length;
    return match;
  }
}

function unescaped(literal: string, offset: number): string {
  try {
    return JSON.parse(literal);
  } catch {
    throw new JsonInputError('string has a bad escape or a raw control character', offset);
  }
}

function numberValue(match: RegExpExecArray, offset: number): number | bigint {
  const [text, fraction, exponent] = match;
  if (fraction !== undefined || exponent !== undefined) {
    const value = Number(text);
    if (!Number.isFinite(value)) throw new JsonInputError('number is too large for a double', offset);
    return Number.isSafeInteger(value) ? encodable(BigInt(value)) : value;
  }
  const integer = BigInt(text);
  if (integer > MAX_UINT64 || integer < MIN_INT64)
    throw new JsonInputError('integer does not fit into 64 bits', offset);
  return encodable(integer);
}

/** The form of an integer that the encoder writes smallest. */
function encodable(integer: bigint): number | bigint {
  // It writes numbers up to 32 bits in their smallest form and bigints in 8 bytes.
  return integer >= -(2n ** 31n) && integer < 2n ** 32n ? Number(integer) : integer;
}
