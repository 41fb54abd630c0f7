/**
 * Conditions of callback ACEs: the infix text of SDDL to and from the postfix tokens of ACL-87.
 * The text form carries its own parentheses: `(Member_of{SID(BA)})`.
 */
import { SddlError } from './sddlError.js';
import { readSid } from './sddlSid.js';
import { formatSidShort } from './sid.js';

const MAGIC = Buffer.from('artx', 'latin1');
const MAX_NESTING = 64;

const COMPARISONS: ReadonlyMap<string, number> = new Map([
  ['==', 0x80],
  ['!=', 0x81],
  ['<', 0x82],
  ['<=', 0x83],
  ['>', 0x84],
  ['>=', 0x85],
  ['Contains', 0x86],
  ['Any_of', 0x88],
  ['Not_Contains', 0x8e],
  ['Not_Any_of', 0x8f],
]);

const MEMBERSHIPS: ReadonlyMap<string, number> = new Map([
  ['Member_of', 0x89],
  ['Device_Member_of', 0x8a],
  ['Member_of_Any', 0x8b],
  ['Device_Member_of_Any', 0x8c],
  ['Not_Member_of', 0x90],
  ['Not_Device_Member_of', 0x91],
  ['Not_Member_of_Any', 0x92],
  ['Not_Device_Member_of_Any', 0x93],
]);

const EXISTENCE: ReadonlyMap<string, number> = new Map([
  ['Exists', 0x87],
  ['Not_Exists', 0x8d],
]);

const SCOPES: ReadonlyMap<string, number> = new Map([
  ['@User.', 0xf9],
  ['@Resource.', 0xfa],
  ['@Device.', 0xfb],
]);

const LOCAL = 0xf8;
const INT64 = 0x04;
const STRING = 0x10;
const OCTETS = 0x18;
const COMPOSITE = 0x50;
const SID = 0x51;
const AND = 0xa0;
const OR = 0xa1;
const NOT = 0xa2;

/**
 * Compiles the condition that starts at `offset` (its opening parenthesis).
 *
 * @returns the bytes, `artx` first, and the offset after the closing parenthesis.
 * @throws SddlError
 */
export function parseCondition(
  text: string,
  offset: number,
): { readonly bytes: Uint8Array; readonly end: number } {
  const parser = new ConditionParser(text, offset);
  const tokens = parser.parenthesised();
  return { bytes: Uint8Array.from(Buffer.concat([MAGIC, ...tokens])), end: parser.at };
}

class ConditionParser {
  #nesting = 0;

  constructor(
    private readonly text: string,
    public at: number,
  ) {}

  parenthesised(): Buffer[] {
    this.#expect('(');
    if (++this.#nesting > MAX_NESTING) this.#fail(`more than ${MAX_NESTING} nested parentheses`);
    const tokens = this.#chain('||', OR, () => this.#chain('&&', AND, () => this.#unary()));
    this.#nesting--;
    this.#expect(')');
    return tokens;
  }

  #chain(operator: string, code: number, operand: () => Buffer[]): Buffer[] {
    const tokens = operand();
    while (this.#take(operator)) tokens.push(...operand(), Buffer.of(code));
    return tokens;
  }

  #unary(): Buffer[] {
    let negations = 0;
    while (this.#take('!')) negations++;
    const tokens = this.#peek() === '(' ? this.parenthesised() : this.#term();
    for (; negations > 0; negations--) tokens.push(Buffer.of(NOT));
    return tokens;
  }

  #term(): Buffer[] {
    const word = /^[A-Za-z_]+/.exec(this.#rest())?.[0] ?? '';
    const membership = MEMBERSHIPS.get(word);
    if (membership !== undefined) {
      this.at += word.length;
      return [this.#peek() === '{' ? this.#composite() : composite([this.#literal()]), Buffer.of(membership)];
    }
    const existence = EXISTENCE.get(word);
    if (existence !== undefined) {
      this.at += word.length;
      return [this.#attribute(), Buffer.of(existence)];
    }
    const left = this.#attribute();
    this.#peek();
    const operator = /^(?:[=!<>]=|[<>]|(?:Not_)?(?:Contains|Any_of)(?![A-Za-z_]))/.exec(this.#rest())?.[0];
    const code = operator === undefined ? undefined : COMPARISONS.get(operator);
    if (operator === undefined || code === undefined) return [left];
    this.at += operator.length;
    this.#peek();
    const isLiteral = /^(?:["{#+0-9-]|SID\()/.test(this.#rest());
    return [left, isLiteral ? this.#literal() : this.#attribute(), Buffer.of(code)];
  }

  #attribute(): Buffer {
    this.#peek();
    const scope = [...SCOPES.keys()].find((prefix) => this.#rest().startsWith(prefix));
    if (scope !== undefined) this.at += scope.length;
    const name = /^(?:[A-Za-z0-9_.:/]|%[0-9A-Fa-f]{4})+/.exec(this.#rest())?.[0];
    if (name === undefined) this.#fail('expected an attribute name');
    this.at += name.length;
    const plain = name.replace(/%([0-9A-Fa-f]{4})/g, (_, hex: string) =>
      String.fromCharCode(Number.parseInt(hex, 16)),
    );
    const code = scope === undefined ? undefined : SCOPES.get(scope);
    return counted(code ?? LOCAL, Buffer.from(plain, 'utf16le'));
  }

  #literal(): Buffer {
    const first = this.#peek();
    if (first === '{') return this.#composite();
    if (first === '"') {
      const end = this.text.indexOf('"', this.at + 1);
      if (end < 0) this.#fail('the closing quote is missing');
      const value = this.text.slice(this.at + 1, end);
      this.at = end + 1;
      return counted(STRING, Buffer.from(value, 'utf16le'));
    }
    if (first === '#') {
      const hex = /^#((?:[0-9A-Fa-f]{2})*)/.exec(this.#rest())?.[1] ?? '';
      this.at += 1 + hex.length;
      return counted(OCTETS, Buffer.from(hex, 'hex'));
    }
    if (this.#take('SID(')) {
      const { sid, end } = readSid(this.text, this.at);
      this.at = end;
      this.#expect(')');
      return counted(SID, sid);
    }
    return this.#integer();
  }

  #integer(): Buffer {
    const match = /^([+-]?)(0x[0-9A-Fa-f]+|[0-9]+)/.exec(this.#rest());
    if (match === null) this.#fail('expected a value');
    const digits = match[2] ?? '';
    const octal = /^0[0-7]+$/.test(digits);
    const magnitude = BigInt(octal ? `0o${digits.slice(1)}` : digits.replace(/^0+(?=[0-9])/, ''));
    const value = match[1] === '-' ? -magnitude : magnitude;
    if (BigInt.asIntN(64, value) !== value) this.#fail(`${match[0]} exceeds 64 bits`);
    this.at += match[0].length;
    const bytes = Buffer.alloc(11);
    bytes[0] = INT64;
    bytes.writeBigInt64LE(value, 1);
    bytes[9] = match[1] === '+' ? 1 : match[1] === '-' ? 2 : 3;
    bytes[10] = octal ? 1 : digits.startsWith('0x') ? 3 : 2;
    return bytes;
  }

  #composite(): Buffer {
    this.#expect('{');
    if (++this.#nesting > MAX_NESTING) this.#fail(`more than ${MAX_NESTING} nested braces`);
    const items: Buffer[] = [];
    if (this.#peek() !== '}') {
      do items.push(this.#literal());
      while (this.#take(','));
    }
    this.#nesting--;
    this.#expect('}');
    return composite(items);
  }

  #rest(): string {
    return this.text.slice(this.at);
  }

  /** The next character that is no blank; blanks are allowed inside conditions only. */
  #peek(): string {
    while (this.text[this.at] === ' ' || this.text[this.at] === '\t') this.at++;
    return this.text[this.at] ?? '';
  }

  #take(token: string): boolean {
    this.#peek();
    if (!this.text.startsWith(token, this.at)) return false;
    this.at += token.length;
    this.#peek();
    return true;
  }

  #expect(token: string): void {
    this.#peek();
    if (!this.text.startsWith(token, this.at)) this.#fail(`expected "${token}"`);
    this.at += token.length;
    // The parenthesis that ends the condition is followed by the ACE, where blanks are mistakes.
    if (this.#nesting > 0) this.#peek();
  }

  #fail(message: string): never {
    throw new SddlError(message, this.at);
  }
}

function counted(code: number, body: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head[0] = code;
  head.writeUInt32LE(body.length, 1);
  return Buffer.concat([head, body]);
}

function composite(items: readonly Buffer[]): Buffer {
  return counted(COMPOSITE, Buffer.concat(items));
}

function unprintable(): never {
  throw new SddlError('a condition of the descriptor has no SDDL form', 0);
}

const OPERATOR_NAMES: ReadonlyMap<number, string> = new Map(
  [...COMPARISONS, ...MEMBERSHIPS, ...EXISTENCE].map(([name, code]) => [code, name]),
);

/**
 * Prints condition bytes, parentheses included.
 *
 * @throws SddlError for malformed bytes: those stay legal in a descriptor (ACL-90) but have no text.
 */
export function formatCondition(bytes: Uint8Array): string {
  const data = Buffer.from(bytes);
  if (!data.subarray(0, 4).equals(MAGIC)) unprintable();
  const stack: { readonly text: string; readonly simple: boolean }[] = [];
  const pop = () => stack.pop() ?? unprintable();
  const grouped = () => {
    const item = pop();
    return item.simple ? item.text : `(${item.text})`;
  };
  let offset = 4;
  while (offset < data.length) {
    const code = data[offset] ?? 0;
    if (code === 0) {
      if (data.subarray(offset).some((byte) => byte !== 0)) unprintable();
      break;
    }
    if (code < 0x80 || code >= LOCAL) {
      const operand = formatOperand(data, offset);
      stack.push({ text: operand.text, simple: true });
      offset = operand.end;
      continue;
    }
    offset++;
    if (code === AND || code === OR) {
      const right = grouped();
      stack.push({ text: `${grouped()} ${code === AND ? '&&' : '||'} ${right}`, simple: false });
    } else if (code === NOT) {
      stack.push({ text: `!(${pop().text})`, simple: true });
    } else {
      const name = OPERATOR_NAMES.get(code) ?? unprintable();
      if (MEMBERSHIPS.has(name)) stack.push({ text: `${name}${pop().text}`, simple: true });
      else if (EXISTENCE.has(name)) stack.push({ text: `${name} ${pop().text}`, simple: true });
      else {
        const right = pop().text;
        stack.push({ text: `${pop().text} ${name} ${right}`, simple: true });
      }
    }
  }
  const result = pop();
  if (stack.length > 0) unprintable();
  return `(${result.text})`;
}

function formatOperand(
  data: Buffer,
  offset: number,
  nesting = 0,
): { readonly text: string; readonly end: number } {
  const code = data[offset] ?? 0;
  if (nesting > MAX_NESTING) unprintable();
  if (code >= 0x01 && code <= 0x04) {
    if (offset + 11 > data.length) unprintable();
    return { text: formatInteger(data.subarray(offset + 1, offset + 11)), end: offset + 11 };
  }
  if (offset + 5 > data.length) unprintable();
  const end = offset + 5 + data.readUInt32LE(offset + 1);
  if (end > data.length) unprintable();
  const body = data.subarray(offset + 5, end);
  if (code === STRING) {
    const text = body.toString('utf16le');
    if (body.length % 2 !== 0 || text.includes('"')) unprintable();
    return { text: `"${text}"`, end };
  }
  if (code === OCTETS) return { text: `#${body.toString('hex')}`, end };
  if (code === SID) return { text: `SID(${formatSidShort(body)})`, end };
  if (code === COMPOSITE) {
    const items: string[] = [];
    for (let at = 0; at < body.length; ) {
      const item = formatOperand(body, at, nesting + 1);
      items.push(item.text);
      at = item.end;
    }
    return { text: `{${items.join(', ')}}`, end };
  }
  const scope = code === LOCAL ? '' : [...SCOPES].find(([, value]) => value === code)?.[0];
  if (scope === undefined || body.length === 0 || body.length % 2 !== 0) unprintable();
  const name = body
    .toString('utf16le')
    .replace(/[^A-Za-z0-9_.:/]/g, (unit) => `%${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return { text: scope + name, end };
}

function formatInteger(body: Buffer): string {
  const value = body.readBigInt64LE(0);
  const magnitude = value < 0n ? -value : value;
  const sign = body[8] === 1 ? '+' : body[8] === 2 ? '-' : value < 0n ? '-' : '';
  if (body[9] === 3) return `${sign}0x${magnitude.toString(16)}`;
  if (body[9] === 1) return `${sign}0${magnitude.toString(8)}`;
  return `${sign}${magnitude}`;
}
