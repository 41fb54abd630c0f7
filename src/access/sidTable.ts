/** Which SIDs match a caller, in a form that answers per ACE with one look-up (ACL-69, ACL-70). */
import { SID_ANONYMOUS, sidKey } from './sid.js';
import { GROUP_FLAG_DENY_ONLY, GROUP_FLAG_ENABLED, type Token, type TokenGroup } from './token.js';

const MATCHES_ALLOW = 1;
const MATCHES_DENY = 2;
/** In the table at all, which is what ownership asks. */
const PRESENT = 4;

/** The SIDs of one walk through an ACL. */
export class SidTable {
  readonly #bits = new Map<string, number>();

  add(sid: Uint8Array, bits: number): this {
    const key = sidKey(sid);
    this.#bits.set(key, (this.#bits.get(key) ?? 0) | bits | PRESENT);
    return this;
  }

  addGroups(groups: readonly TokenGroup[]): this {
    for (const { sid, attributes } of groups) this.add(sid, polarityOf(attributes));
    return this;
  }

  has(sid: string, deny: boolean): boolean {
    return ((this.#bits.get(sid) ?? 0) & (deny ? MATCHES_DENY : MATCHES_ALLOW)) !== 0;
  }

  /** Whatever its attributes (ACL-70). */
  owns(owner: string): boolean {
    return this.#bits.has(owner);
  }
}

/** Enabled groups match both ways, deny-only ones deny only, others never. */
function polarityOf(attributes: number): number {
  if ((attributes & GROUP_FLAG_DENY_ONLY) !== 0) return MATCHES_DENY;
  return (attributes & GROUP_FLAG_ENABLED) !== 0 ? MATCHES_ALLOW | MATCHES_DENY : 0;
}

/** The tables of a token. */
export interface TokenTables {
  readonly all: SidTable;
  /** Without the user, as Member_of asks (ACL-89). */
  readonly groups: SidTable;
  readonly deviceGroups: SidTable;
  /** Null: the token is not restricted. */
  readonly restricting: SidTable | null;
  /** Null: the token is not confined. */
  readonly confinement: SidTable | null;
}

const tablesByToken = new WeakMap<Token, TokenTables>();

/** Tokens never change, so their tables are made once. */
export function tablesOf(token: Token): TokenTables {
  let tables = tablesByToken.get(token);
  if (tables === undefined) {
    tables = buildTables(token);
    tablesByToken.set(token, tables);
  }
  return tables;
}

function buildTables(token: Token): TokenTables {
  const both = MATCHES_ALLOW | MATCHES_DENY;
  if (token.type === 'anonymous') {
    // S-1-5-7 and nobody else, whatever the token says about groups.
    const nobody = new SidTable();
    return {
      all: new SidTable().add(SID_ANONYMOUS, both),
      groups: nobody,
      deviceGroups: nobody,
      restricting: null,
      confinement: null,
    };
  }
  const restricting = new SidTable();
  for (const { sid } of token.restrictingSids) restricting.add(sid, both);
  return {
    all: new SidTable().add(token.user, token.userDenyOnly ? MATCHES_DENY : both).addGroups(token.groups),
    groups: new SidTable().addGroups(token.groups),
    deviceGroups: new SidTable().addGroups(token.deviceGroups),
    restricting: token.restrictingSids.length > 0 ? restricting : null,
    confinement:
      token.confinementSid === null
        ? null
        : new SidTable().add(token.confinementSid, both).addGroups(token.confinementCapabilities),
  };
}
