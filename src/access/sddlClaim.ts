/** Resource attributes in SDDL: `("Project",TS,0x0,"Red","Blue")`, the last field of an RA entry (ACL-92). */
import { CLAIM, ClaimError, decodeClaim, encodeClaim } from './claims.js';
import { SddlError } from './sddlError.js';
import { readSid } from './sddlSid.js';
import { formatSidShort } from './sid.js';

const TYPES: ReadonlyMap<string, number> = new Map([
  ['TI', CLAIM.int64],
  ['TU', CLAIM.uint64],
  ['TS', CLAIM.string],
  ['TD', CLAIM.sid],
  ['TX', CLAIM.octets],
  ['TB', CLAIM.boolean],
]);

const INTEGER = /^-?(?:0x[0-9a-f]+|[0-9]+)/i;

/**
 * Compiles the attribute that starts at `offset`, its opening parenthesis.
 *
 * @returns the claim entry and the offset after the closing parenthesis
 * @throws SddlError
 */
export function parseClaim(
  text: string,
  offset: number,
): { readonly bytes: Uint8Array; readonly end: number } {
  let at = offset;
  const fail = (message: string): never => {
    throw new SddlError(message, at);
  };
  const take = (pattern: RegExp, what: string): string => {
    const found = pattern.exec(text.slice(at));
    if (found === null) return fail(`expected ${what}`);
    at += found[0].length;
    return found[1] ?? found[0];
  };
  const takeValue = (type: number): string | bigint | Uint8Array => {
    switch (type) {
      case CLAIM.string:
        return take(/^"([^"]*)"/, 'a string in double quotes');
      case CLAIM.octets:
        return Uint8Array.from(
          Buffer.from(take(/^#((?:[0-9a-f]{2})*)/i, '"#" and pairs of hex digits'), 'hex'),
        );
      case CLAIM.sid: {
        const { sid, end } = readSid(text, at);
        at = end;
        return sid;
      }
      default: {
        const start = at;
        const value = integer(take(INTEGER, 'a number'));
        const fits = type === CLAIM.int64 ? BigInt.asIntN(64, value) : BigInt.asUintN(64, value);
        if (fits === value && (type !== CLAIM.boolean || value < 2n)) return value;
        at = start;
        return fail(`${value} does not fit the type`);
      }
    }
  };
  take(/^\(/, '"("');
  const name = take(/^"([^"]*)"/, 'the name in double quotes');
  take(/^,/, '","');
  const type = TYPES.get(text.slice(at, at + 2)) ?? fail(`expected one of ${[...TYPES.keys()].join(', ')}`);
  at += 2;
  take(/^,/, '","');
  const flags = Number(take(/^(?:0x[0-9a-f]{1,8}|[0-9]{1,9})/i, 'flags'));
  const values: (string | bigint | Uint8Array)[] = [];
  while (text[at] === ',') {
    at++;
    values.push(takeValue(type));
  }
  take(/^\)/, '"," or ")"');
  try {
    return { bytes: encodeClaim({ name, type, flags, values }), end: at };
  } catch (error) {
    if (error instanceof ClaimError) throw new SddlError(error.message, offset);
    throw error;
  }
}

function integer(text: string): bigint {
  return text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text);
}

/**
 * Prints a claim entry, parentheses included.
 *
 * @throws SddlError for what SDDL cannot express
 */
export function formatClaim(bytes: Uint8Array): string {
  const unprintable = (): never => {
    throw new SddlError('a resource attribute of the descriptor has no SDDL form', 0);
  };
  const quoted = (value: string): string => (value.includes('"') ? unprintable() : `"${value}"`);
  try {
    const { name, type, flags, values } = decodeClaim(bytes);
    const tag = [...TYPES].find(([, code]) => code === type)?.[0] ?? unprintable();
    const shown = values.map((value) => {
      if (typeof value === 'string') return quoted(value);
      if (typeof value === 'bigint') return String(value);
      return type === CLAIM.sid ? formatSidShort(value) : `#${Buffer.from(value).toString('hex')}`;
    });
    return `(${[quoted(name), tag, `0x${flags.toString(16)}`, ...shown].join(',')})`;
  } catch (error) {
    if (error instanceof ClaimError) return unprintable();
    throw error;
  }
}
