/** Evaluates the conditions of callback ACEs in three-valued logic (ACL-86, ACL-88, ACL-89). */
import { foldName } from '../registry/names.js';
import { CLAIM, CLAIM_FLAG } from './claims.js';
import type { AttributeScope, Condition, Scalar } from './condition.js';
import { sidKey } from './sid.js';
import type { TokenClaim } from './token.js';

/** FALSE < UNKNOWN < TRUE, so that AND is the lesser, OR the greater, NOT the distance from TRUE. */
export type Ternary = 0 | 1 | 2;
export const FALSE = 0;
export const UNKNOWN = 1;
export const TRUE = 2;

/** What a condition can ask about. Claims are keyed by folded name. */
export interface ConditionContext {
  /** Deny-only claims count in deny and audit ACEs only. */
  readonly deny: boolean;
  readonly claims: Readonly<Record<AttributeScope, ReadonlyMap<string, TokenClaim>>>;
  /** Whether the SID is among the caller's groups, or the device's (ACL-69). */
  isMember(sid: string, deny: boolean): boolean;
  isDeviceMember(sid: string, deny: boolean): boolean;
}

type Operand =
  | { readonly kind: 'result'; readonly value: Ternary }
  | { readonly kind: 'literal'; readonly values: readonly Scalar[] }
  /** Null: absent, disabled, empty, or deny-only where that does not count. */
  | { readonly kind: 'attribute'; readonly values: readonly Scalar[] | null };

const MAX_DEPTH = 1024;

class Undecidable extends Error {}

/** Null stands for a malformed condition, which is UNKNOWN. */
export function evaluateCondition(condition: Condition | null, context: ConditionContext): Ternary {
  if (condition === null) return UNKNOWN;
  try {
    return run(condition, context);
  } catch (error) {
    if (error instanceof Undecidable) return UNKNOWN;
    throw error;
  }
}

function run(condition: Condition, context: ConditionContext): Ternary {
  const stack: Operand[] = [];
  const pop = (): Operand => {
    const operand = stack.pop();
    if (operand === undefined) throw new Undecidable();
    return operand;
  };
  for (const step of condition) {
    if (step.kind === 'literal') stack.push(step);
    else if (step.kind === 'attribute') {
      const claim = context.claims[step.scope].get(step.name);
      stack.push({ kind: 'attribute', values: attributeValues(claim, context.deny) });
    } else stack.push({ kind: 'result', value: operate(step.code, pop, context) });
    if (stack.length > MAX_DEPTH) throw new Undecidable();
  }
  const result = pop();
  if (stack.length > 0) throw new Undecidable();
  return truth(result) ?? UNKNOWN;
}

/** Claims stay the same for the life of a token or a descriptor; so do their scalars. */
const scalarsOf = new WeakMap<TokenClaim, readonly Scalar[]>();

function attributeValues(claim: TokenClaim | undefined, deny: boolean): readonly Scalar[] | null {
  if (claim === undefined || claim.values.length === 0) return null;
  if ((claim.flags & CLAIM_FLAG.disabled) !== 0) return null;
  if (!deny && (claim.flags & CLAIM_FLAG.denyOnly) !== 0) return null;
  let scalars = scalarsOf.get(claim);
  if (scalars === undefined) {
    scalars = claim.values.map((value) => scalar(claim, value));
    scalarsOf.set(claim, scalars);
  }
  return scalars;
}

function scalar({ type, flags }: TokenClaim, value: string | bigint | Uint8Array): Scalar {
  if (typeof value === 'bigint') return { kind: type === CLAIM.boolean ? 'boolean' : 'integer', value };
  if (typeof value === 'string')
    return { kind: 'string', value, caseSensitive: (flags & CLAIM_FLAG.caseSensitive) !== 0 };
  return { kind: type === CLAIM.sid ? 'sid' : 'octets', value: sidKey(value) };
}

function operate(code: number, pop: () => Operand, context: ConditionContext): Ternary {
  switch (code) {
    case 0xa2: {
      const operand = truth(pop());
      return operand === null ? UNKNOWN : not(operand);
    }
    case 0xa0:
    case 0xa1: {
      const [right, left] = [truth(pop()), truth(pop())];
      if (left === null || right === null) return UNKNOWN;
      return (code === 0xa0 ? Math.min(left, right) : Math.max(left, right)) as Ternary;
    }
    case 0x87:
    case 0x8d: {
      const operand = pop();
      if (operand.kind !== 'attribute') return UNKNOWN;
      return (operand.values !== null) === (code === 0x87) ? TRUE : FALSE;
    }
    case 0x89:
    case 0x8a:
    case 0x8b:
    case 0x8c:
      return membership(code, pop(), context);
    case 0x90:
    case 0x91:
    case 0x92:
    case 0x93:
      return not(membership(code - 7, pop(), context));
    default: {
      const [right, left] = [valuesOf(pop()), valuesOf(pop())];
      return left === null || right === null ? UNKNOWN : compare(code, left, right);
    }
  }
}

function not(value: Ternary): Ternary {
  return (TRUE - value) as Ternary;
}

/** Null for a bare literal, which is no truth value. */
function truth(operand: Operand): Ternary | null {
  if (operand.kind === 'result') return operand.value;
  if (operand.kind === 'literal') return null;
  const [value, second] = operand.values ?? [];
  if (value === undefined || second !== undefined) return UNKNOWN;
  switch (value.kind) {
    case 'integer':
    case 'boolean':
      return value.value === 0n ? FALSE : TRUE;
    case 'string':
      return value.value === '' ? FALSE : TRUE;
    default:
      return UNKNOWN;
  }
}

function valuesOf(operand: Operand): readonly Scalar[] | null {
  if (operand.kind === 'result') throw new Undecidable();
  return operand.values;
}

function membership(code: number, operand: Operand, context: ConditionContext): Ternary {
  const sids = valuesOf(operand);
  if (sids === null || sids.some(({ kind }) => kind !== 'sid')) return UNKNOWN;
  const isMember = (sid: Scalar): boolean => {
    const key = sid.kind === 'sid' ? sid.value : '';
    const device = code === 0x8a || code === 0x8c;
    return device ? context.isDeviceMember(key, context.deny) : context.isMember(key, context.deny);
  };
  const holds = code === 0x89 || code === 0x8a ? sids.every(isMember) : sids.some(isMember);
  return holds ? TRUE : FALSE;
}

function compare(code: number, left: readonly Scalar[], right: readonly Scalar[]): Ternary {
  const kind = left[0]?.kind ?? right[0]?.kind;
  if ([left, right].some((values) => values.some((value) => value.kind !== kind))) return UNKNOWN;
  switch (code) {
    case 0x80:
      return equalSets(left, right) ? TRUE : FALSE;
    case 0x81:
      return equalSets(left, right) ? FALSE : TRUE;
    case 0x86:
      return hasAll(left, right) ? TRUE : FALSE;
    case 0x88:
      return hasAny(left, right) ? TRUE : FALSE;
    case 0x8e:
      return hasAll(left, right) ? FALSE : TRUE;
    case 0x8f:
      return hasAny(left, right) ? FALSE : TRUE;
    default: {
      const order = orderOf(left, right);
      if (order === null) return UNKNOWN;
      const holds =
        code === 0x82 ? order < 0 : code === 0x83 ? order <= 0 : code === 0x84 ? order > 0 : order >= 0;
      return holds ? TRUE : FALSE;
    }
  }
}

/** Only single integers and strings have an order. */
function orderOf(left: readonly Scalar[], right: readonly Scalar[]): number | null {
  const [a, b] = [left[0], right[0]];
  if (a === undefined || b === undefined || left.length > 1 || right.length > 1) return null;
  if (a.kind === 'integer' && b.kind === 'integer') return a.value < b.value ? -1 : a.value > b.value ? 1 : 0;
  if (a.kind !== 'string' || b.kind !== 'string') return null;
  const exact = a.caseSensitive || b.caseSensitive;
  const [x, y] = exact ? [a.value, b.value] : [foldName(a.value), foldName(b.value)];
  return x < y ? -1 : x > y ? 1 : 0;
}

type KeySet = ReadonlySet<string | bigint>;

/** A condition may name a large attribute many times. */
const keyCache = new WeakMap<readonly Scalar[], Map<boolean, KeySet>>();

function keysOf(values: readonly Scalar[], exact: boolean): KeySet {
  const cached = keyCache.get(values) ?? new Map<boolean, KeySet>();
  keyCache.set(values, cached);
  let keys = cached.get(exact);
  if (keys === undefined) {
    keys = new Set(
      values.map((value) => (value.kind === 'string' && !exact ? foldName(value.value) : value.value)),
    );
    cached.set(exact, keys);
  }
  return keys;
}

/** The values of both sides, in a form in which equal ones are the same key. */
function keySets(left: readonly Scalar[], right: readonly Scalar[]) {
  const exact = [left, right].some((values) => values.some((v) => v.kind === 'string' && v.caseSensitive));
  return [keysOf(left, exact), keysOf(right, exact)] as const;
}

function hasAll(left: readonly Scalar[], right: readonly Scalar[]): boolean {
  const [have, wanted] = keySets(left, right);
  return [...wanted].every((key) => have.has(key));
}

function hasAny(left: readonly Scalar[], right: readonly Scalar[]): boolean {
  const [have, wanted] = keySets(left, right);
  return [...wanted].some((key) => have.has(key));
}

function equalSets(left: readonly Scalar[], right: readonly Scalar[]): boolean {
  const [a, b] = keySets(left, right);
  return a.size === b.size && [...a].every((key) => b.has(key));
}
