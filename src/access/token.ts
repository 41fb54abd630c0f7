/** The caller as access checks see it (ACL-69 and the token view of HOST-66). */
import { SID_ADMINISTRATORS, SID_SYSTEM, sidsEqual } from './sid.js';

/** Group attributes: mandatory, enabled by default, enabled. */
export const GROUP_ENABLED = 7;
export const GROUP_FLAG_ENABLED = 0x4;
export const GROUP_FLAG_DENY_ONLY = 0x10;

/** Bit numbers of privileges in a token's mask (ACL-73). */
export const PRIVILEGE_SECURITY = 8n;
export const PRIVILEGE_TAKE_OWNERSHIP = 9n;
export const PRIVILEGE_RELABEL = 32n;

export interface TokenGroup {
  readonly sid: Uint8Array;
  readonly attributes: number;
}

/** A claim: STRING, INT64, UINT64, BOOLEAN (as bigint), SID or octets. */
export interface TokenClaim {
  readonly type: number;
  readonly flags: number;
  readonly values: readonly (string | bigint | Uint8Array)[];
}

/** An access token, the parts that decide and audit access. */
export interface Token {
  readonly user: Uint8Array;
  readonly userDenyOnly: boolean;
  readonly groups: readonly TokenGroup[];
  /** Bit n = privilege n is present and enabled. */
  readonly privileges: bigint;
  /** Integrity level as a number; Medium is 8192. */
  readonly integrityLevel: number;
  /** Bit 0 = NO_WRITE_UP. */
  readonly mandatoryPolicy: number;
  readonly type: 'primary' | 'anonymous' | 'identification' | 'impersonation' | 'delegation';
  readonly restrictingSids: readonly TokenGroup[];
  readonly writeRestricted: boolean;
  readonly confinementSid: Uint8Array | null;
  readonly confinementCapabilities: readonly TokenGroup[];
  /** By folded name. */
  readonly userClaims: ReadonlyMap<string, TokenClaim>;
  readonly deviceClaims: ReadonlyMap<string, TokenClaim>;
  readonly deviceGroups: readonly TokenGroup[];
  readonly trust: { readonly type: number; readonly level: number };
  /** Bit 0 = audit successes, bit 1 = audit failures. */
  readonly auditPolicy: number;
}

/** True when the token grants as SYSTEM or as a member of Administrators, enabled and not deny-only. */
export function isSystemOrAdministrator(token: Pick<Token, 'user' | 'userDenyOnly' | 'groups'>): boolean {
  if (sidsEqual(token.user, SID_SYSTEM) && !token.userDenyOnly) return true;
  return token.groups.some(
    ({ sid, attributes }) =>
      (attributes & GROUP_FLAG_ENABLED) !== 0 &&
      (attributes & GROUP_FLAG_DENY_ONLY) === 0 &&
      (sidsEqual(sid, SID_ADMINISTRATORS) || sidsEqual(sid, SID_SYSTEM)),
  );
}
