/**
 * Security descriptors in the form in which they are evaluated: what a check asks for again and again
 * is looked up once per descriptor.
 */
import { ClaimError, claimTable, decodeClaim, type NamedClaim } from './claims.js';
import { type Condition, readCondition } from './condition.js';
import { guidKey } from './fieldGuid.js';
import {
  type Ace,
  buildAce,
  parseSecurityDescriptor,
  type SecurityDescriptor,
  SecurityDescriptorError,
} from './securityDescriptor.js';
import { SID_EVERYONE, SID_OWNER_RIGHTS, sidKey } from './sid.js';
import type { TokenClaim } from './token.js';

/** What applies whatever its type: whom, which field, under which condition. */
export interface CompiledAce {
  readonly sid: string;
  /** Access mask as stored; generic bits are mapped when it is used. */
  readonly mask: number;
  /** Key of the object type GUID; null = the whole object (ACL-21). */
  readonly objectType: string | null;
  /** `undefined` = unconditional; null = a malformed condition, which is UNKNOWN. */
  readonly condition: Condition | null | undefined;
}

export interface AccessAce extends CompiledAce {
  readonly deny: boolean;
}

export interface AuditAce extends CompiledAce {
  readonly onSuccess: boolean;
  readonly onFailure: boolean;
  /** The ACE as stored. */
  readonly bytes: Uint8Array;
}

export interface CompiledDescriptor {
  /** Null: no check can be made with it (ACL-64). */
  readonly owner: string | null;
  /** In stored order, without inherit-only ones. Null: no DACL (ACL-77). */
  readonly dacl: readonly AccessAce[] | null;
  /** An allow or deny ACE names S-1-3-4, so the owner gets nothing unasked (ACL-76). */
  readonly namesOwnerRights: boolean;
  /** Fields can differ from each other (ACL-43). */
  readonly hasObjectAces: boolean;
  readonly label: { readonly level: number; readonly policy: number } | null;
  readonly trust: { readonly type: number; readonly level: number; readonly mask: number } | null;
  readonly hasPolicyIds: boolean;
  readonly audits: readonly AuditAce[];
  /** Some ACE depends on a condition, and with it on what is read (ACL-55). */
  readonly hasConditions: boolean;
  readonly attributes: ReadonlyMap<string, TokenClaim>;
}

const INHERIT_ONLY = 0x08;
const AUDIT_SUCCESS = 0x40;
const AUDIT_FAILURE = 0x80;

const ALLOW_TYPES: ReadonlySet<number> = new Set([0x00, 0x05, 0x09, 0x0b]);
const DENY_TYPES: ReadonlySet<number> = new Set([0x01, 0x06, 0x0a, 0x0c]);
const AUDIT_TYPES: ReadonlySet<number> = new Set([0x02, 0x07, 0x0d, 0x0f]);
const TYPE_LABEL = 0x11;
const TYPE_ATTRIBUTE = 0x12;
const TYPE_POLICY_ID = 0x13;
const TYPE_TRUST = 0x14;

const LABEL_AUTHORITY = 16;
const TRUST_AUTHORITY = 19;
const OWNER_RIGHTS = sidKey(SID_OWNER_RIGHTS);
const EVERYONE = sidKey(SID_EVERYONE);

/**
 * Parses and compiles a self-relative descriptor.
 *
 * @throws SecurityDescriptorError for anything malformed, system ACEs included (ACL-66, ACL-74)
 */
export function compileDescriptor(bytes: Uint8Array): CompiledDescriptor {
  return compile(parseSecurityDescriptor(bytes));
}

/** Compiles a parsed descriptor; see `compileDescriptor`. */
export function compile(descriptor: SecurityDescriptor): CompiledDescriptor {
  const dacl = descriptor.dacl?.aces.filter(applies) ?? [];
  const sacl = descriptor.sacl?.aces.filter(applies) ?? [];
  const access = dacl.flatMap((ace): AccessAce[] => {
    const deny = DENY_TYPES.has(ace.type);
    return deny || ALLOW_TYPES.has(ace.type) ? [{ ...common(ace), deny }] : [];
  });
  // Every attribute ACE must be well-formed, inherit-only ones as well.
  const attributes = (descriptor.sacl?.aces ?? []).filter(({ type }) => type === TYPE_ATTRIBUTE);
  const claims = new Map(attributes.map((ace) => [ace, attribute(ace)]));
  const label = sacl.find(({ type }) => type === TYPE_LABEL);
  const trust = sacl.find(({ type }) => type === TYPE_TRUST);
  return {
    owner: descriptor.owner === null ? null : sidKey(descriptor.owner),
    dacl: descriptor.dacl === null ? null : access,
    namesOwnerRights: access.some(({ sid }) => sid === OWNER_RIGHTS),
    hasObjectAces: dacl.some(
      ({ type, shape }) =>
        (shape === 'object' || shape === 'callbackObject') && (ALLOW_TYPES.has(type) || DENY_TYPES.has(type)),
    ),
    label: label === undefined ? null : labelOf(label),
    trust: trust === undefined ? null : trustOf(trust),
    hasPolicyIds: sacl.some(({ type }) => type === TYPE_POLICY_ID),
    audits: sacl.filter(({ type }) => AUDIT_TYPES.has(type)).map(audit),
    hasConditions: access.some(({ condition }) => condition !== undefined),
    attributes: claimTable(
      sacl.flatMap((ace): NamedClaim[] => {
        const claim = claims.get(ace);
        return claim === undefined ? [] : [claim];
      }),
    ),
  };
}

function applies(ace: Ace): boolean {
  return ace.shape !== 'unknown' && (ace.flags & INHERIT_ONLY) === 0;
}

function common(ace: Ace): CompiledAce {
  const conditional = ace.shape === 'callback' || ace.shape === 'callbackObject';
  return {
    sid: ace.sid === null ? '' : sidKey(ace.sid),
    mask: ace.mask,
    objectType: ace.objectType === null ? null : guidKey(ace.objectType),
    condition: conditional ? readCondition(ace.extra) : undefined,
  };
}

function audit(ace: Ace): AuditAce {
  return {
    ...common(ace),
    onSuccess: (ace.flags & AUDIT_SUCCESS) !== 0,
    onFailure: (ace.flags & AUDIT_FAILURE) !== 0,
    bytes: buildAce(ace),
  };
}

function attribute(ace: Ace): NamedClaim {
  if (ace.sid === null || sidKey(ace.sid) !== EVERYONE) malformed('a resource attribute is not for S-1-1-0');
  try {
    return decodeClaim(ace.extra);
  } catch (error) {
    if (error instanceof ClaimError) return malformed(`resource attribute: ${error.message}`);
    throw error;
  }
}

/** The sub-authorities of a SID that must have this authority and this many of them. */
function subAuthorities(sid: Uint8Array | null, authority: number, count: number): readonly number[] | null {
  if (sid === null || sid[1] !== count) return null;
  const view = new DataView(sid.buffer, sid.byteOffset, sid.byteLength);
  if (view.getUint16(2) !== 0 || view.getUint32(4) !== authority) return null;
  return Array.from({ length: count }, (_, index) => view.getUint32(8 + 4 * index, true));
}

function labelOf(ace: Ace): { readonly level: number; readonly policy: number } {
  const [level] = subAuthorities(ace.sid, LABEL_AUTHORITY, 1) ?? [];
  if (level === undefined) return malformed('an integrity label is no S-1-16-<level>');
  return { level, policy: ace.mask };
}

function trustOf(ace: Ace): NonNullable<CompiledDescriptor['trust']> {
  const [type, level] = subAuthorities(ace.sid, TRUST_AUTHORITY, 2) ?? [];
  if (type === undefined || level === undefined)
    return malformed('a trust label is no S-1-19-<type>-<level>');
  return { type, level, mask: ace.mask };
}

function malformed(what: string): never {
  throw new SecurityDescriptorError(`malformed security descriptor: ${what}`);
}
