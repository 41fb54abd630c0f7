/** The lexical rules of `PEIOS-REG 1` (HOST-49), one line at a time. */
import { SddlError, sddlToSecurityDescriptor, securityDescriptorToSddl } from '../access/sddl.js';
import {
  binaryData,
  decodeDword,
  decodeMultiSz,
  decodeQword,
  decodeSz,
  dwordData,
  multiSzData,
  qwordData,
  REG,
  type RegistryData,
  sameData,
  szData,
} from './value.js';

/** First line of a hive file. */
export const HIVE_HEADER = 'PEIOS-REG 1';

/** A mistake in a line. `offset` is 0-based and counts UTF-16 units. */
export class HiveSyntaxError extends Error {
  override readonly name = 'HiveSyntaxError';

  constructor(
    message: string,
    readonly offset: number,
  ) {
    super(message);
  }
}

/** One line of a hive file, understood. */
export type HiveStatement =
  | { readonly kind: 'blank' }
  | { readonly kind: 'section'; readonly path: string; readonly pathAt: number }
  /** `data` null = `-`, delete. The value's text lies at `valueAt` up to `valueEnd`. */
  | {
      readonly kind: 'value';
      readonly name: string;
      readonly nameAt: number;
      readonly data: RegistryData | null;
      readonly valueAt: number;
      readonly valueEnd: number;
    };

const VALUE_FORMS = 'expected "text", dword:, qword:, hex:, multi:, sddl: or -';

class Scanner {
  at = 0;

  constructor(readonly text: string) {}

  skipBlanks(): void {
    while (this.text[this.at] === ' ' || this.text[this.at] === '\t') this.at++;
  }

  peek(): string {
    return this.text[this.at] ?? '';
  }

  take(token: string): boolean {
    if (!this.text.startsWith(token, this.at)) return false;
    this.at += token.length;
    return true;
  }

  expect(token: string, what = `expected ${token}`): void {
    if (!this.take(token)) this.fail(what);
  }

  fail(message: string, offset = this.at): never {
    throw new HiveSyntaxError(message, offset);
  }

  /** A quoted string; only `\\` and `\"` are escapes. */
  quoted(what: string): string {
    const start = this.at;
    this.expect('"', `expected ${what} in double quotes`);
    let text = '';
    for (;;) {
      const character = this.text[this.at];
      if (character === undefined) this.fail('the closing quote is missing', start);
      if (character === '"') break;
      if (character === '\0') this.fail('NUL is not allowed');
      if (character === '\\') {
        this.at++;
        if (this.peek() !== '\\' && this.peek() !== '"')
          this.fail('expected \\\\ or \\" after a backslash', this.at - 1);
      }
      text += this.peek();
      this.at++;
    }
    this.at++;
    return text;
  }

  endOfLine(): void {
    this.skipBlanks();
    if (this.at < this.text.length && this.peek() !== ';') this.fail('expected the end of the line');
  }
}

/** @throws HiveSyntaxError */
export function parseHiveLine(text: string): HiveStatement {
  const scanner = new Scanner(text);
  scanner.skipBlanks();
  const first = scanner.peek();
  if (first === '' || first === ';') return { kind: 'blank' };
  if (first === '[') return parseSection(scanner);
  if (first !== '"' && first !== '@') scanner.fail('expected [key], "name"=, @= or a ; comment');
  const nameAt = scanner.at;
  const name = scanner.take('@') ? '' : scanner.quoted('a value name');
  scanner.skipBlanks();
  scanner.expect('=');
  scanner.skipBlanks();
  const valueAt = scanner.at;
  const data = parseData(scanner);
  const valueEnd = scanner.at;
  scanner.endOfLine();
  return { kind: 'value', name, nameAt, data, valueAt, valueEnd };
}

function parseSection(scanner: Scanner): HiveStatement {
  const pathAt = ++scanner.at;
  const end = scanner.text.indexOf(']', pathAt);
  if (end < 0) scanner.fail('expected ]', scanner.text.length);
  scanner.at = end + 1;
  scanner.endOfLine();
  return { kind: 'section', path: scanner.text.slice(pathAt, end), pathAt };
}

function parseData(scanner: Scanner): RegistryData | null {
  if (scanner.take('-')) return null;
  if (scanner.peek() === '"') return szData(scanner.quoted('a text'));
  if (scanner.take('dword:')) return dwordData(Number.parseInt(hexDigits(scanner, 8), 16));
  if (scanner.take('qword:')) return qwordData(BigInt(`0x${hexDigits(scanner, 16)}`));
  if (scanner.take('hex:')) return binaryData(hexBytes(scanner));
  if (scanner.take('multi:')) return multiSzData(strings(scanner));
  if (scanner.take('sddl:')) return binaryData(sddl(scanner));
  if (scanner.take('hex(')) {
    const code = /^[0-9a-f]{1,8}(?=\):)/i.exec(scanner.text.slice(scanner.at))?.[0];
    if (code === undefined) scanner.fail('expected a type code in hex and "):"');
    scanner.at += code.length + 2;
    return { type: Number.parseInt(code, 16), data: hexBytes(scanner) };
  }
  return scanner.fail(VALUE_FORMS);
}

function hexDigits(scanner: Scanner, count: number): string {
  const digits = /^[0-9a-f]*/i.exec(scanner.text.slice(scanner.at))?.[0] ?? '';
  if (digits.length !== count) scanner.fail(`expected ${count} hex digits, found ${digits.length}`);
  scanner.at += count;
  return digits;
}

function hexBytes(scanner: Scanner): Uint8Array {
  const bytes: number[] = [];
  if (!/[0-9a-f]/i.test(scanner.peek())) return new Uint8Array(0);
  do {
    scanner.skipBlanks();
    bytes.push(Number.parseInt(hexDigits(scanner, 2), 16));
    scanner.skipBlanks();
  } while (scanner.take(','));
  return Uint8Array.from(bytes);
}

function strings(scanner: Scanner): string[] {
  const texts: string[] = [];
  if (scanner.peek() !== '"') return texts;
  do {
    scanner.skipBlanks();
    const start = scanner.at;
    const text = scanner.quoted('a text');
    if (text === '') scanner.fail('an empty text would end the list', start);
    texts.push(text);
    scanner.skipBlanks();
  } while (scanner.take(','));
  return texts;
}

function sddl(scanner: Scanner): Uint8Array {
  const start = scanner.at;
  const text = scanner.quoted('an SDDL text');
  try {
    return sddlToSecurityDescriptor(text);
  } catch (error) {
    if (!(error instanceof SddlError)) throw error;
    // Each quote or backslash before the mistake took two characters in the file.
    const before = text.slice(0, error.offset);
    const escapes = before.length - before.replace(/["\\]/g, '').length;
    return scanner.fail(`SDDL: ${error.reason}`, start + 1 + error.offset + escapes);
  }
}

/**
 * Reads the right-hand side of a value line alone; null = `-`.
 *
 * @throws HiveSyntaxError
 */
export function parseHiveData(text: string): RegistryData | null {
  const scanner = new Scanner(text);
  scanner.skipBlanks();
  const data = parseData(scanner);
  scanner.skipBlanks();
  if (scanner.at < text.length) scanner.fail('expected the end of the value');
  return data;
}

/** A name as it stands left of the `=`. Null = the format cannot express it. */
export function formatHiveName(name: string): string | null {
  return name === '' ? '@' : quoted(name);
}

function quoted(text: string): string | null {
  // The format has no escape for line ends.
  return /[\r\n\0]/.test(text) ? null : `"${text.replace(/["\\]/g, '\\$&')}"`;
}

/** The right-hand side of a value line. Descriptors come out as SDDL where that keeps every byte. */
export function formatHiveData(value: RegistryData): string {
  return (
    readable(value) ??
    `${value.type === REG.BINARY ? 'hex' : `hex(${value.type.toString(16)})`}:${hex(value.data)}`
  );
}

function hex(data: Uint8Array): string {
  return Array.from(data, (byte) => byte.toString(16).padStart(2, '0')).join(',');
}

function readable(value: RegistryData): string | null {
  const exact = (text: string | null, back: () => RegistryData) =>
    text !== null && sameData(back(), value) ? text : null;
  switch (value.type) {
    case REG.SZ: {
      const text = decodeSz(value.data);
      return text === null ? null : exact(quoted(text), () => szData(text));
    }
    case REG.DWORD: {
      const number = decodeDword(value.data);
      return number === null ? null : `dword:${number.toString(16).padStart(8, '0')}`;
    }
    case REG.QWORD: {
      const number = decodeQword(value.data);
      return number === null ? null : `qword:${number.toString(16).padStart(16, '0')}`;
    }
    case REG.MULTI_SZ: {
      const texts = decodeMultiSz(value.data);
      const parts = texts?.map(quoted);
      return parts === undefined || parts.includes(null) ? null : `multi:${parts.join(',')}`;
    }
    case REG.BINARY:
      return readableDescriptor(value);
    default:
      return null;
  }
}

function readableDescriptor(value: RegistryData): string | null {
  try {
    const text = securityDescriptorToSddl(value.data);
    const literal = quoted(text);
    return literal !== null && sameData(binaryData(sddlToSecurityDescriptor(text)), value)
      ? `sddl:${literal}`
      : null;
  } catch {
    // Not a descriptor, or one SDDL cannot express: the caller falls back to hex.
    return null;
  }
}
