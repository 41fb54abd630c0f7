/** Reads the conditions of callback ACEs (ACL-86, ACL-87); `conditionEval.ts` evaluates them. */
import { foldName } from '../registry/names.js';
import { sidKey } from './sid.js';

/** One value of a literal or an attribute, comparable with values of its own kind only. */
export type Scalar =
  | { readonly kind: 'integer'; readonly value: bigint }
  | { readonly kind: 'string'; readonly value: string; readonly caseSensitive: boolean }
  | { readonly kind: 'boolean'; readonly value: bigint }
  /** Bytes as a latin1 text, which compares fast. */
  | { readonly kind: 'sid' | 'octets'; readonly value: string };

export type AttributeScope = 'local' | 'user' | 'resource' | 'device';

/** One step of the postfix program. */
export type ConditionStep =
  | { readonly kind: 'literal'; readonly values: readonly Scalar[] }
  | { readonly kind: 'attribute'; readonly scope: AttributeScope; readonly name: string }
  | { readonly kind: 'operator'; readonly code: number };

export type Condition = readonly ConditionStep[];

const MAGIC = 0x78747261;
const SCOPES: ReadonlyMap<number, AttributeScope> = new Map([
  [0xf8, 'local'],
  [0xf9, 'user'],
  [0xfa, 'resource'],
  [0xfb, 'device'],
]);
const OPERATORS: ReadonlySet<number> = new Set([
  0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90, 0x91,
  0x92, 0x93, 0xa0, 0xa1, 0xa2,
]);
const COMPOSITE = 0x50;

class MalformedCondition extends Error {}

/** The program of a condition, or null when its bytes are malformed: then it is UNKNOWN (ACL-86, ACL-90). */
export function readCondition(bytes: Uint8Array): Condition | null {
  try {
    return readSteps(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  } catch (error) {
    if (error instanceof MalformedCondition) return null;
    throw error;
  }
}

function readSteps(data: Buffer): Condition {
  if (data.length < 4 || data.readUInt32LE(0) !== MAGIC) throw new MalformedCondition();
  const steps: ConditionStep[] = [];
  let offset = 4;
  while (offset < data.length) {
    const code = data[offset] ?? 0;
    if (code === 0) {
      if (data.subarray(offset).some((byte) => byte !== 0)) throw new MalformedCondition();
      break;
    }
    if (OPERATORS.has(code)) {
      steps.push({ kind: 'operator', code });
      offset++;
      continue;
    }
    const scope = SCOPES.get(code);
    if (scope !== undefined) {
      const { body, end } = counted(data, offset);
      steps.push({ kind: 'attribute', scope, name: foldName(utf16(body)) });
      offset = end;
      continue;
    }
    const { values, end } = code === COMPOSITE ? readComposite(data, offset) : readScalar(data, offset);
    steps.push({ kind: 'literal', values });
    offset = end;
  }
  return steps;
}

/** A token's body, whose length stands in front of it. */
function counted(data: Buffer, offset: number): { readonly body: Buffer; readonly end: number } {
  if (offset + 5 > data.length) throw new MalformedCondition();
  const end = offset + 5 + data.readUInt32LE(offset + 1);
  if (end > data.length) throw new MalformedCondition();
  return { body: data.subarray(offset + 5, end), end };
}

interface Operand {
  readonly values: readonly Scalar[];
  readonly end: number;
}

function readComposite(data: Buffer, offset: number): Operand {
  const { body, end } = counted(data, offset);
  const values: Scalar[] = [];
  for (let at = 0; at < body.length; ) {
    const item = readScalar(body, at);
    values.push(...item.values);
    at = item.end;
  }
  return { values, end };
}

function readScalar(data: Buffer, offset: number): Operand {
  const code = data[offset] ?? 0;
  if (code >= 0x01 && code <= 0x04) {
    if (offset + 11 > data.length) throw new MalformedCondition();
    return { values: [{ kind: 'integer', value: readInteger(data, offset, code) }], end: offset + 11 };
  }
  const { body, end } = counted(data, offset);
  switch (code) {
    case 0x10:
      return { values: [{ kind: 'string', value: utf16(body), caseSensitive: false }], end };
    case 0x18:
      return { values: [{ kind: 'octets', value: body.toString('latin1') }], end };
    case 0x51:
      return { values: [{ kind: 'sid', value: sidKey(body) }], end };
    default:
      throw new MalformedCondition();
  }
}

/** The sign byte rules over the sign the value has itself; what does not fit the width is malformed. */
function readInteger(data: Buffer, offset: number, code: number): bigint {
  const stored = data.readBigInt64LE(offset + 1);
  const magnitude = stored < 0n ? -stored : stored;
  const sign = data[offset + 9];
  if (sign !== 1 && sign !== 2 && sign !== 3) throw new MalformedCondition();
  const value = sign === 1 ? magnitude : sign === 2 ? -magnitude : stored;
  if (BigInt.asIntN(4 << code, value) !== value) throw new MalformedCondition();
  return value;
}

function utf16(body: Buffer): string {
  if (body.length % 2 !== 0) throw new MalformedCondition();
  return body.toString('utf16le');
}
