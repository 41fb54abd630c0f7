/**
 * The embedded AccessCheck: verdicts of a token over a security descriptor, per node of an object type
 * list (ACL-71..84, HOST-71). Synchronous and pure; what is to be audited comes back with the verdict.
 */
import { type AccessAce, type CompiledDescriptor, compileDescriptor } from './compiledDescriptor.js';
import type { AttributeScope } from './condition.js';
import { evaluateCondition, FALSE, TRUE } from './conditionEval.js';
import { NodeStates, type ObjectNode, type ObjectTree, SCALAR_TREE, treeOf } from './objectTree.js';
import {
  ACCESS_SYSTEM_SECURITY,
  GENERIC_ALL,
  type GenericMapping,
  MAXIMUM_ALLOWED,
  mapGenerics,
  READ_CONTROL,
  RESERVED_BITS,
  SYNCHRONIZE,
  WRITE_DAC,
  WRITE_OWNER,
} from './rights.js';
import { SecurityDescriptorError } from './securityDescriptor.js';
import { SID_ADMINISTRATORS, SID_OWNER_RIGHTS, SID_SYSTEM, sidKey } from './sid.js';
import { type SidTable, type TokenTables, tablesOf } from './sidTable.js';
import {
  PRIVILEGE_RELABEL,
  PRIVILEGE_SECURITY,
  PRIVILEGE_TAKE_OWNERSHIP,
  type Token,
  type TokenClaim,
} from './token.js';

export interface AccessCheckInput {
  readonly token: Token;
  /** Compiled, or the bytes of a self-relative descriptor. */
  readonly descriptor: CompiledDescriptor | Uint8Array;
  /** Generic bits and MAXIMUM_ALLOWED may be set. */
  readonly desired: number;
  readonly mapping: GenericMapping;
  /** Null: one verdict for the whole object; object ACEs then count as if they named none (ACL-79). */
  readonly nodes: readonly ObjectNode[] | null;
  /** Claims of this check, by folded name. */
  readonly localClaims?: ReadonlyMap<string, TokenClaim>;
}

export interface NodeVerdict {
  /** All rights found, asked for or not; only the asked ones are comparable (ACL-83). */
  readonly granted: number;
  readonly ok: boolean;
}

/** Why an audit record is due. */
export interface AuditTrigger {
  readonly kind: 'sacl' | 'policy';
  /** The ACE as stored; null for the token's own policy. */
  readonly ace: Uint8Array | null;
}

export interface AccessCheckResult {
  /** One per node; exactly one where no list was given. The first is the root. */
  readonly nodes: readonly NodeVerdict[];
  /** Generic bits mapped, MAXIMUM_ALLOWED cleared. */
  readonly desired: number;
  readonly audits: readonly AuditTrigger[];
}

/** A check that could not be made; callers deny (ACL-40). */
export class AccessCheckError extends Error {
  override readonly name = 'AccessCheckError';

  constructor(
    readonly code: 'EACCES' | 'EINVAL',
    message: string,
  ) {
    super(message);
  }
}

const DEFAULT_LABEL = { level: 8192, policy: 0x2 };
const NO_READ_UP = 0x1;
const NO_WRITE_UP = 0x2;
const NO_EXECUTE_UP = 0x4;
const TOKEN_NO_WRITE_UP = 0x1;
const AUDIT_SUCCESSES = 1;
const AUDIT_FAILURES = 2;
const OWNER_RIGHTS = sidKey(SID_OWNER_RIGHTS);
const NO_CLAIMS: ReadonlyMap<string, TokenClaim> = new Map();

/** Stands in for central policies, of which a stand-in has none (ACL-82). */
const RECOVERY_DACL: readonly AccessAce[] = [SID_ADMINISTRATORS, SID_SYSTEM, SID_OWNER_RIGHTS].map((sid) => ({
  sid: sidKey(sid),
  mask: GENERIC_ALL,
  objectType: null,
  condition: undefined,
  deny: false,
}));

/**
 * Decides a request.
 *
 * @throws AccessCheckError EACCES for a token that may only be identified, EINVAL for a malformed
 * request or descriptor
 */
export function accessCheck(input: AccessCheckInput): AccessCheckResult {
  if (input.token.type === 'identification')
    throw new AccessCheckError('EACCES', 'the token may only be identified');
  const descriptor = compiled(input.descriptor);
  if (descriptor.owner === null) throw new AccessCheckError('EINVAL', 'the descriptor has no owner');
  if ((input.desired & RESERVED_BITS) !== 0)
    throw new AccessCheckError('EINVAL', `reserved bits in the request 0x${input.desired.toString(16)}`);
  const tree = input.nodes === null ? SCALAR_TREE : treeOf(input.nodes);
  if (tree === null) throw new AccessCheckError('EINVAL', 'the object type list breaks its rules');
  return new Evaluation(input, descriptor, descriptor.owner, tree).run();
}

function compiled(descriptor: CompiledDescriptor | Uint8Array): CompiledDescriptor {
  if (!(descriptor instanceof Uint8Array)) return descriptor;
  try {
    return compileDescriptor(descriptor);
  } catch (error) {
    if (error instanceof SecurityDescriptorError) throw new AccessCheckError('EINVAL', error.message);
    throw error;
  }
}

class Evaluation {
  readonly #token: Token;
  readonly #tables: TokenTables;
  readonly #mapping: GenericMapping;
  readonly #desired: number;
  readonly #maximum: boolean;
  readonly #hasList: boolean;
  readonly #claims: Readonly<Record<AttributeScope, ReadonlyMap<string, TokenClaim>>>;
  /** Seeds of every node (ACL-76). */
  #decided = 0;
  #granted = 0;
  /** Bits a label denies; WRITE_OWNER by privilege must not pass them. */
  #blocked = 0;

  constructor(
    input: AccessCheckInput,
    private readonly descriptor: CompiledDescriptor,
    private readonly owner: string,
    private readonly tree: ObjectTree,
  ) {
    this.#token = input.token;
    this.#tables = tablesOf(input.token);
    this.#mapping = input.mapping;
    this.#maximum = (input.desired & MAXIMUM_ALLOWED) !== 0;
    this.#desired = (mapGenerics(input.desired, input.mapping) & ~MAXIMUM_ALLOWED) >>> 0;
    this.#hasList = input.nodes !== null;
    this.#claims = {
      local: input.localClaims ?? NO_CLAIMS,
      user: input.token.userClaims,
      device: input.token.deviceClaims,
      resource: descriptor.attributes,
    };
  }

  run(): AccessCheckResult {
    this.#systemSecurity();
    this.#integrity();
    this.#trust();
    const privileged = this.#granted;
    const states = new NodeStates(this.tree, this.#decided, this.#granted);
    this.#walk(this.descriptor.dacl, this.#tables.all, states, true, true);
    const own = privileged | this.#takeOwnership(states);
    this.#restrict(states, own);
    this.#confine(states);
    this.#centralPolicy(states, own);
    const nodes = Array.from(states.granted, (granted) => ({
      granted,
      ok: (granted & this.#desired) >>> 0 === this.#desired,
    }));
    return { nodes, desired: this.#desired, audits: this.#audits(nodes[0]?.ok ?? false) };
  }

  #has(privilege: bigint): boolean {
    return ((this.#token.privileges >> privilege) & 1n) === 1n;
  }

  /** ACCESS_SYSTEM_SECURITY is never a matter of ACEs (ACL-73). */
  #systemSecurity(): void {
    this.#decided |= ACCESS_SYSTEM_SECURITY;
    if (this.#has(PRIVILEGE_SECURITY)) this.#granted |= ACCESS_SYSTEM_SECURITY;
  }

  /** Mandatory integrity: who stands below the label keeps little (ACL-74). */
  #integrity(): void {
    const label = this.descriptor.label ?? DEFAULT_LABEL;
    const bound = (this.#token.mandatoryPolicy & TOKEN_NO_WRITE_UP) !== 0;
    if (!bound || this.#token.integrityLevel >= label.level) return;
    const { read, write, execute } = this.#mapping;
    let allowed = read | execute | READ_CONTROL | SYNCHRONIZE;
    if ((label.policy & NO_READ_UP) !== 0) allowed &= ~read;
    if ((label.policy & NO_WRITE_UP) !== 0) allowed &= ~write;
    if ((label.policy & NO_EXECUTE_UP) !== 0) allowed &= ~execute;
    if (this.#has(PRIVILEGE_RELABEL)) allowed |= WRITE_OWNER;
    this.#block(this.#mapping.all & ~allowed);
  }

  /** A trust label binds who is not at least as trusted on both axes (ACL-75). */
  #trust(): void {
    const { trust } = this.descriptor;
    const caller = this.#token.trust;
    if (trust === null || (caller.type >= trust.type && caller.level >= trust.level)) return;
    const denied = (this.#mapping.all | ACCESS_SYSTEM_SECURITY) & ~mapGenerics(trust.mask, this.#mapping);
    this.#block(denied);
    this.#granted &= ~denied;
  }

  #block(bits: number): void {
    this.#blocked |= bits;
    this.#decided |= bits;
  }

  /** One pass through an ACL; null = there is none and everything is granted (ACL-76..80). */
  #walk(
    dacl: readonly AccessAce[] | null,
    sids: SidTable,
    states: NodeStates,
    ownerGrant: boolean,
    mayStop: boolean,
  ): void {
    if (dacl === null) {
      states.allowAll(this.#mapping.all);
      return;
    }
    const owns = sids.owns(this.owner);
    if (ownerGrant && owns && !this.descriptor.namesOwnerRights) states.allowAll(READ_CONTROL | WRITE_DAC);
    for (const ace of dacl) {
      if (mayStop && this.#isSettled(states)) break;
      if (!(ace.sid === OWNER_RIGHTS ? owns : sids.has(ace.sid, ace.deny))) continue;
      const target = this.#target(ace.objectType);
      if (target !== null && this.#conditionHolds(ace)) this.#apply(ace, target, states);
    }
  }

  /** Stopping early would leave nodes or unasked rights undecided, so it is for plain requests only (ACL-80). */
  #isSettled(states: NodeStates): boolean {
    return !this.#hasList && !this.#maximum && (this.#desired & ~(states.decided[0] ?? 0)) === 0;
  }

  /** Index of the node an ACE is about, -1 for all, null for one that is not in the list. */
  #target(objectType: string | null): number | null {
    if (objectType === null || !this.#hasList) return -1;
    return this.tree.indexOf.get(objectType) ?? null;
  }

  #apply(ace: AccessAce, target: number, states: NodeStates): void {
    const mask = mapGenerics(ace.mask, this.#mapping);
    if (target < 0) ace.deny ? states.denyAll(mask) : states.allowAll(mask);
    else ace.deny ? states.denyBelow(target, mask) : states.allowBelow(target, mask);
  }

  /** Allow acts on TRUE only, deny on anything but FALSE (ACL-86). */
  #conditionHolds({ condition, deny }: AccessAce): boolean {
    if (condition === undefined) return true;
    const value = this.#evaluate(condition, deny);
    return deny ? value !== FALSE : value === TRUE;
  }

  #evaluate(condition: Parameters<typeof evaluateCondition>[0], deny: boolean) {
    const { groups, deviceGroups } = this.#tables;
    return evaluateCondition(condition, {
      deny,
      claims: this.#claims,
      isMember: (sid, polarity) => groups.has(sid, polarity),
      isDeviceMember: (sid, polarity) => deviceGroups.has(sid, polarity),
    });
  }

  /** SeTakeOwnership gives WRITE_OWNER where it was asked for and no label stands against it (ACL-73). */
  #takeOwnership(states: NodeStates): number {
    const wanted = this.#maximum || (this.#desired & WRITE_OWNER) !== 0;
    if (!wanted || !this.#has(PRIVILEGE_TAKE_OWNERSHIP) || (this.#blocked & WRITE_OWNER) !== 0) return 0;
    for (const index of states.granted.keys()) {
      states.granted[index] = (states.granted[index] ?? 0) | WRITE_OWNER;
      states.decided[index] = (states.decided[index] ?? 0) | WRITE_OWNER;
    }
    return WRITE_OWNER;
  }

  /** A restricted token needs its rights a second time, from its restricting SIDs alone (ACL-81). */
  #restrict(states: NodeStates, privileged: number): void {
    const { restricting } = this.#tables;
    if (restricting === null) return;
    const second = new NodeStates(this.tree);
    this.#walk(this.descriptor.dacl, restricting, second, true, false);
    const exempt = this.#token.writeRestricted ? ~this.#mapping.write : 0;
    intersect(states, second, exempt | privileged);
  }

  #confine(states: NodeStates): void {
    const { confinement } = this.#tables;
    if (confinement === null) return;
    const second = new NodeStates(this.tree);
    this.#walk(this.descriptor.dacl, confinement, second, false, false);
    intersect(states, second, 0);
  }

  #centralPolicy(states: NodeStates, privileged: number): void {
    if (!this.descriptor.hasPolicyIds) return;
    const second = new NodeStates(this.tree);
    this.#walk(RECOVERY_DACL, this.#tables.all, second, false, false);
    intersect(states, second, privileged);
  }

  /** What the SACL and the token's own policy want recorded; never changes the verdict (ACL-84). */
  #audits(succeeded: boolean): AuditTrigger[] {
    const found: AuditTrigger[] = [];
    for (const ace of this.descriptor.audits) {
      if (!(succeeded ? ace.onSuccess : ace.onFailure)) continue;
      const matches =
        ace.sid === OWNER_RIGHTS ? this.#tables.all.owns(this.owner) : this.#tables.all.has(ace.sid, true);
      if (!matches || (mapGenerics(ace.mask, this.#mapping) & this.#desired) === 0) continue;
      if (this.#target(ace.objectType) === null) continue;
      if (ace.condition !== undefined && this.#evaluate(ace.condition, true) === FALSE) continue;
      found.push({ kind: 'sacl', ace: ace.bytes });
    }
    const forced = succeeded ? AUDIT_SUCCESSES : AUDIT_FAILURES;
    if ((this.#token.auditPolicy & forced) !== 0) found.push({ kind: 'policy', ace: null });
    return found;
  }
}

/** Keeps of each node's rights what the second pass grants as well, and the exempt ones. */
function intersect(states: NodeStates, second: NodeStates, exempt: number): void {
  for (const index of states.granted.keys()) {
    states.granted[index] = (states.granted[index] ?? 0) & ((second.granted[index] ?? 0) | exempt);
  }
}
