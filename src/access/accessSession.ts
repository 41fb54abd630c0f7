/**
 * What one query's caller may see (ACL-26..48). Verdicts live as long as the connection and are keyed on
 * the identifier, so each type read leaves its own audit trail (ACL-47).
 */
import { setImmediate as othersTurn } from 'node:timers/promises';
import { mayAdminister } from './adminDescriptor.js';
import type { Caller, StoredDescriptor } from './caller.js';
import { cutUtf8, MAX_AUDIT_CONTEXT_BYTES } from './caller.js';
import { CLAIM, type NamedClaim } from './claims.js';
import {
  type DataType,
  type FieldList,
  type FieldPath,
  fieldLists,
  fieldName,
  fieldNames,
  isTooDeep,
  rootList,
} from './fieldLists.js';
import type { PatternView, SecurityPatterns } from './securityPatterns.js';

/** What of an identifier's records may be seen. Denied and absent look the same. */
export interface Visibility {
  /** The root or at least one field is granted (ACL-30). */
  readonly visible: boolean;
  /** No field is denied, whatever fields a record has. */
  readonly everything: boolean;
  /** Whether a field of the list that was asked about may be shown; unknown names may not. */
  mayShow(name: string): boolean;
  /** Names of the list that are denied; none where nothing or everything is visible. */
  readonly denied: readonly string[];
}

/** Whether all identifiers of a type are alike to a caller. */
export type Uniformity = 'everything' | 'nothing' | 'various';

/** Fields that occur in the records of each identifier, besides the fixed ones of the type. */
export type PresentFields = ReadonlyMap<string, readonly FieldPath[]>;

/**
 * What the verdicts of a session may weigh together: each its identifier's length and something. Past it
 * the oldest go, which costs another check. Senders choose identifiers.
 */
const MAX_VERDICT_WEIGHT = 4 * 1024 * 1024;
const VERDICT_WEIGHT = 128;
/** Fields over all sets of fields a session keeps. Payloads choose their fields. */
const MAX_KEPT_FIELDS = 65536;
/** Longest identifier that becomes a claim. */
const MAX_CLAIM_TEXT = 16384;
/** Checks of one session that run at the same time. */
const MAX_CONCURRENT = 16;
/** Identifiers after which others get their turn on this thread. */
const TURN = 128;

interface Verdict {
  readonly type: DataType;
  readonly identifier: string;
  readonly descriptor: StoredDescriptor | null;
  readonly visibility: Promise<Visibility>;
  /** The check could not be made: it counts as denied now, and is tried again for the next batch. */
  failed: boolean;
}

function weightOf(identifier: string): number {
  return VERDICT_WEIGHT + identifier.length;
}

/** The lists of one set of fields, and what came out for them so far: few outcomes serve many identifiers. */
interface FieldSet {
  readonly id: number;
  readonly lists: readonly FieldList[];
  readonly outcomes: Map<string, Visibility>;
}

export class AccessSession {
  readonly #verdicts = new Map<string, Verdict>();
  #weight = 0;
  #hasFailures = false;
  readonly #fieldSets = new Map<string, FieldSet>();
  readonly #uniform = new Map<DataType, Promise<Uniformity>>();
  #keptFields = 0;
  #nextSet = 1;
  #views: Readonly<Record<DataType, PatternView>>;
  #generation: number;

  private constructor(
    private readonly caller: Caller,
    private readonly patterns: SecurityPatterns,
  ) {
    this.#generation = patterns.generation;
    this.#views = viewsOf(patterns);
  }

  /** Begins a query: what the registry says now holds until its end (ACL-46, CFG-63). */
  static async open(caller: Caller, patterns: SecurityPatterns): Promise<AccessSession> {
    await patterns.refresh();
    return new AccessSession(caller, patterns);
  }

  /**
   * Begins a batch of a stream: descriptors that changed since the last one are checked anew, all other
   * verdicts stay (ACL-49). True when anything may be different now.
   */
  async nextBatch(): Promise<boolean> {
    if (!this.isStale) return false;
    await this.patterns.refresh();
    this.#generation = this.patterns.generation;
    this.#views = viewsOf(this.patterns);
    this.#hasFailures = false;
    let changed = this.#uniform.size > 0;
    this.#uniform.clear();
    for (const [key, verdict] of this.#verdicts) {
      const now = this.#descriptor(verdict.type, verdict.identifier);
      if (!verdict.failed && sameDescriptor(now, verdict.descriptor)) continue;
      this.#drop(key, verdict.identifier);
      changed = true;
    }
    return changed;
  }

  /** A descriptor changed since the verdicts were made, or a check failed: `nextBatch` has something to do. */
  get isStale(): boolean {
    const { generation, isUnread } = this.patterns;
    return generation !== this.#generation || isUnread || this.#hasFailures;
  }

  /**
   * Whether all identifiers of a type, those to come included, are alike to the caller: then nobody needs
   * to know which there are. That is so where no descriptor tells fields or identifiers apart, or wants its
   * readers audited by identifier, and all of them grant, or all deny. One check per descriptor.
   */
  uniformity(type: DataType): Promise<Uniformity> {
    let known = this.#uniform.get(type);
    if (known === undefined) {
      known = this.#uniformity(type);
      this.#uniform.set(type, known);
    }
    return known;
  }

  async #uniformity(type: DataType): Promise<Uniformity> {
    const { all } = this.#views[type];
    if (all.some(({ descriptor }) => descriptor !== null && !isPlain(descriptor))) return 'various';
    let granted = 0;
    for (const { pattern, descriptor } of all) {
      const seen = await this.#check(type, pattern ?? '', descriptor, null).catch(() => {
        this.#hasFailures = true;
        return NOTHING;
      });
      if (seen.everything) granted++;
      else if (granted > 0) return 'various';
    }
    if (granted === 0) return 'nothing';
    return granted === all.length ? 'everything' : 'various';
  }

  /** Whether the fields of an identifier's records matter to what may be seen of it (ACL-43). */
  tellsFieldsApart(type: DataType, identifier: string): boolean {
    return this.#descriptor(type, identifier)?.compiled.hasObjectAces === true;
  }

  /**
   * Whether the very spelling of an identifier, of any without one, may matter, which patterns and SQL
   * compare without case: to a verdict, or to the audit trail that each of them leaves (ACL-47).
   */
  tellsSpellingsApart(type: DataType, identifier?: string): boolean {
    const descriptors =
      identifier === undefined
        ? this.#views[type].all.map(({ descriptor }) => descriptor)
        : [this.#descriptor(type, identifier)];
    return descriptors.some((descriptor) => descriptor !== null && tellsIdentifiersApart(descriptor));
  }

  /**
   * What may be seen of the records of one identifier that have these fields.
   *
   * Where no object ACE can tell fields apart the fields do not matter, and one check answers for all
   * records of the identifier (ACL-43); else one check per set of fields does (ACL-44).
   */
  visibility(type: DataType, identifier: string, present: readonly FieldPath[] = []): Promise<Visibility> {
    const descriptor = this.#descriptor(type, identifier);
    const fields = descriptor?.compiled.hasObjectAces ? this.#fieldSet(type, present) : null;
    const key = `${type} ${fields?.id ?? 0} ${identifier}`;
    const known = this.#verdicts.get(key);
    if (known !== undefined) {
      // The oldest goes first; a used one is the youngest.
      this.#verdicts.delete(key);
      this.#verdicts.set(key, known);
      return known.visibility;
    }
    const verdict: Verdict = {
      type,
      identifier,
      descriptor,
      visibility: this.#check(type, identifier, descriptor, fields).catch(() => {
        verdict.failed = true;
        this.#hasFailures = true;
        return NOTHING;
      }),
      failed: false,
    };
    this.#verdicts.set(key, verdict);
    this.#weight += weightOf(identifier);
    for (const [oldest, { identifier: other }] of this.#verdicts) {
      if (this.#weight <= MAX_VERDICT_WEIGHT || oldest === key) break;
      this.#drop(oldest, other);
    }
    return verdict.visibility;
  }

  async #check(
    type: DataType,
    identifier: string,
    descriptor: StoredDescriptor | null,
    fields: FieldSet | null,
  ): Promise<Visibility> {
    if (descriptor === null) return NOTHING;
    const answers: boolean[][] = [];
    for (const { nodes } of fields?.lists ?? [rootList(type)]) {
      const verdicts = await this.caller.check({
        descriptor,
        nodes,
        auditContext: cutUtf8(`${type}:${identifier}`, MAX_AUDIT_CONTEXT_BYTES),
        localClaims: claimsOf(type, identifier),
      });
      if (verdicts.length !== nodes.length) return NOTHING;
      answers.push(verdicts.map((ok) => ok === true));
    }
    if (fields === null) return answers[0]?.[0] ? EVERYTHING : NOTHING;
    const outcome = answers.map((verdicts) => verdicts.map(Number).join('')).join(' ');
    const known = fields.outcomes.get(outcome) ?? visibilityOf(fields.lists, answers);
    fields.outcomes.set(outcome, known);
    return known;
  }

  #drop(key: string, identifier: string): void {
    this.#verdicts.delete(key);
    this.#weight -= weightOf(identifier);
  }

  #fieldSet(type: DataType, present: readonly FieldPath[]): FieldSet {
    const names = fieldNames(
      type,
      present.some(isTooDeep) ? present.filter((path) => !isTooDeep(path)) : present,
    );
    const key = JSON.stringify([type, names]);
    const known = this.#fieldSets.get(key);
    if (known !== undefined) return known;
    if (this.#keptFields + names.length > MAX_KEPT_FIELDS) {
      this.#fieldSets.clear();
      this.#keptFields = 0;
    }
    const made = { id: this.#nextSet++, lists: fieldLists(type, names), outcomes: new Map() };
    this.#fieldSets.set(key, made);
    this.#keptFields += names.length;
    return made;
  }

  /**
   * Those of the identifiers present of which the caller may see anything at all, with what (QX-5). An
   * identifier that is missing from the answer is denied, or is not there: nothing tells which.
   */
  async readable(type: DataType, present: PresentFields): Promise<ReadonlyMap<string, Visibility>> {
    const readable = new Map<string, Visibility>();
    const names = [...present];
    for (let at = 0; at < names.length; at += MAX_CONCURRENT) {
      if (at > 0 && at % TURN === 0) await othersTurn();
      const some = names.slice(at, at + MAX_CONCURRENT);
      const answers = await Promise.all(some.map(([name, fields]) => this.visibility(type, name, fields)));
      for (const [index, [name]] of some.entries()) {
        const visibility = answers[index];
        if (visibility?.visible) readable.set(name, visibility);
      }
    }
    return readable;
  }

  /**
   * Whether a query may group, sort or aggregate by a field: no identifier that could be in the result,
   * of which the caller sees anything, denies it (ACL-33..36, QX-6).
   */
  async mayUseField(type: DataType, field: FieldPath, present: PresentFields): Promise<boolean> {
    if (isTooDeep(field)) return false;
    const withField = new Map([...present].map(([name, fields]) => [name, [...fields, field]] as const));
    const visible = await this.readable(type, withField);
    return [...visible.values()].every((visibility) => visibility.mayShow(fieldName(field)));
  }

  /**
   * Whether the caller may administer the indexing policy (ACL-56, QL-74).
   *
   * @param descriptor `admin_sd`; null where it is missing or malformed, which refuses (ACL-57)
   */
  mayAdminister(descriptor: StoredDescriptor | null): Promise<boolean> {
    return mayAdminister(this.caller, descriptor);
  }

  /** The connection ends. Safe twice. */
  close(): void {
    this.#verdicts.clear();
    this.#weight = 0;
    this.#fieldSets.clear();
    this.#uniform.clear();
    this.caller.close();
  }

  #descriptor(type: DataType, identifier: string): StoredDescriptor | null {
    return this.#views[type].governing(identifier).descriptor;
  }
}

const NOTHING: Visibility = { visible: false, everything: false, mayShow: () => false, denied: [] };
const EVERYTHING: Visibility = { visible: true, everything: true, mayShow: () => true, denied: [] };

function viewsOf(patterns: SecurityPatterns): Readonly<Record<DataType, PatternView>> {
  return { events: patterns.view('events'), logs: patterns.view('logs'), metrics: patterns.view('metrics') };
}

function isPlain(descriptor: StoredDescriptor): boolean {
  return !descriptor.compiled.hasObjectAces && !tellsIdentifiersApart(descriptor);
}

/** Policies may have conditions of their own. */
function tellsIdentifiersApart({ compiled }: StoredDescriptor): boolean {
  const { hasConditions, hasPolicyIds, audits } = compiled;
  return hasConditions || hasPolicyIds || audits.length > 0;
}

function sameDescriptor(a: StoredDescriptor | null, b: StoredDescriptor | null): boolean {
  if (a === b) return true;
  return a !== null && b !== null && Buffer.compare(a.bytes, b.bytes) === 0;
}

/** A node that stands in several lists is granted only if it is in each (ACL-25). */
function visibilityOf(lists: readonly FieldList[], answers: readonly (readonly boolean[])[]): Visibility {
  const granted = new Map<string, boolean>();
  for (const [list, { names }] of lists.entries()) {
    for (const [index, name] of names.entries()) {
      granted.set(name, (granted.get(name) ?? true) && answers[list]?.[index] === true);
    }
  }
  if (![...granted.values()].some(Boolean)) return NOTHING;
  granted.delete('');
  return {
    visible: true,
    everything: false,
    mayShow: (name) => granted.get(name) === true,
    denied: [...granted].filter(([, ok]) => !ok).map(([name]) => name),
  };
}

/** What conditional ACEs may ask about the data (ACL-55). */
function claimsOf(type: DataType, identifier: string): readonly NamedClaim[] {
  const claim = (name: string, value: string): NamedClaim[] =>
    value.includes('\0') || value.length > MAX_CLAIM_TEXT
      ? []
      : [{ name, type: CLAIM.string, flags: 0, values: [value] }];
  return [...claim('DataType', type), ...claim('Identifier', identifier)];
}
