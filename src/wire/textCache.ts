/**
 * Short texts of results, most of which were there before: keys, names, types and GUIDs. One that is known is
 * found by its bytes, which is several times faster than making it anew, and it is in memory once.
 */
import { isUtf8 } from 'node:buffer';

/** Longer texts are made each time, in bytes. */
const MAX_CACHED_BYTES = 64;

/** Texts held at most; a power of two. */
const PLACES = 2048;

/** Bytes of a text that its place goes by, about. */
const SAMPLES = 16;

/** Up to this many bytes a loop is faster than a call out of JavaScript. */
const LOOP_BYTES = 64;

export class TextCache {
  /** ASCII texts only, so that each has as many bytes as characters. */
  readonly #texts: string[] = new Array<string>(PLACES).fill('');
  readonly #prepare: (text: string) => string;

  /** @param prepare what becomes of a text before it is kept */
  constructor(prepare: (text: string) => string) {
    this.#prepare = prepare;
  }

  /** The text of these bytes; null when they are not valid UTF-8. */
  read(bytes: Buffer, from: number, to: number): string | null {
    const length = to - from;
    if (length > MAX_CACHED_BYTES) return utf8Text(bytes, from, to);
    const step = length <= SAMPLES ? 1 : Math.ceil(length / SAMPLES);
    let hash = length;
    for (let at = from; at < to; at += step) hash = (Math.imul(hash, 31) + (bytes[at] ?? 0)) | 0;
    const place = (hash ^ (hash >>> 11) ^ (hash >>> 22)) & (PLACES - 1);
    const known = this.#texts[place] ?? '';
    if (isText(known, bytes, from, to)) return known;
    const text = utf8Text(bytes, from, to);
    if (text === null || text.length !== length) return text;
    const kept = this.#prepare(text);
    this.#texts[place] = kept;
    return kept;
  }
}

/** The text as engines keep the names of properties, so that using it as one needs no further search. */
export function asKey(text: string): string {
  return Object.keys({ [text]: null })[0] ?? text;
}

/** Whether the bytes are valid UTF-8. */
export function isUtf8Text(bytes: Buffer, from: number, to: number): boolean {
  if (to - from > LOOP_BYTES) return isUtf8(bytes.subarray(from, to));
  let all = 0;
  for (let at = from; at < to; at++) all |= bytes[at] ?? 0;
  return all <= 0x7f || isUtf8(bytes.subarray(from, to));
}

/** Invalid bytes become U+FFFD, which may have been there as well: only then they are looked at twice. */
function utf8Text(bytes: Buffer, from: number, to: number): string | null {
  const text = bytes.toString('utf8', from, to);
  return text.includes('\ufffd') && !isUtf8(bytes.subarray(from, to)) ? null : text;
}

/** Whether an ASCII text has these bytes. */
export function isText(text: string, bytes: Buffer, from: number, to: number): boolean {
  const { length } = text;
  if (length !== to - from) return false;
  for (let i = 0; i < length; i++) if (text.charCodeAt(i) !== bytes[from + i]) return false;
  return true;
}
