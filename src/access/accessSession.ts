/**
 * What one query's caller may see (ACL-26..48). Verdicts live as long as the connection and are keyed on
 * the identifier, so each type read leaves its own audit trail (ACL-47).
 */
import { setImmediate as othersTurn } from 'node:timers/promises';
import { mayAdminister } from './adminDescriptor.js';
import type { Caller, StoredDescriptor } from './caller.js';
import { cutUtf8, MAX_AUDIT_CONTEXT_BYTES } from './caller.js';
import { CLAIM, type NamedClaim } from './claims.js';
import { type DataType, type FieldPath, rootList } from './fieldLists.js';
import type { PatternView, SecurityPatterns } from './securityPatterns.js';
import { type FieldSet, type Verdict, VerdictCache } from './verdictCache.js';
import { EVERYTHING, NOTHING, type Visibility } from './visibility.js';

/** Whether all identifiers of a type are alike to a caller. */
export type Uniformity = 'everything' | 'nothing' | 'various';

/** Fields that occur in the records of each identifier, besides the fixed ones of the type. */
export type PresentFields = ReadonlyMap<string, readonly FieldPath[]>;

/** Is told of an identifier of which something may be seen, with the fields it has; may throw to refuse. */
export type CountName = (identifier: string, fields: readonly FieldPath[]) => void;

/** Longest identifier that becomes a claim. */
const MAX_CLAIM_TEXT = 16384;
/** Checks of one session that run at the same time. */
const MAX_CONCURRENT = 16;
/** Identifiers after which others get their turn on this thread. */
const TURN = 128;

/** What was found out about all identifiers of a type together. */
interface Overall {
  readonly view: PatternView;
  readonly uniformity: Promise<Uniformity>;
  /** A check could not be made. */
  failed: boolean;
}

export class AccessSession {
  readonly #verdicts = new VerdictCache();
  readonly #overall = new Map<DataType, Overall>();
  #hasFailed = false;
  /** Failed checks are made again with the next batch. */
  #retries = false;
  #views: Readonly<Record<DataType, PatternView>>;
  #generation: number;

  private constructor(
    private readonly caller: Caller,
    private readonly patterns: SecurityPatterns,
    private readonly over: AbortSignal | undefined,
  ) {
    this.#generation = patterns.generation;
    this.#views = viewsOf(patterns);
  }

  /**
   * Begins a query: what the registry says now holds until its end (ACL-46, CFG-63).
   *
   * @param over aborted when nobody waits for answers any more: then this and `readable` reject
   */
  static async open(caller: Caller, patterns: SecurityPatterns, over?: AbortSignal): Promise<AccessSession> {
    await patterns.refresh();
    over?.throwIfAborted();
    return new AccessSession(caller, patterns, over);
  }

  /**
   * Begins a batch of a stream: descriptors that changed since the last one are checked anew, and so is
   * what `retryFailed` asked for; all other verdicts stay (ACL-49). True when anything may be different now.
   */
  async nextBatch(): Promise<boolean> {
    if (!this.isStale && !this.#retries) return false;
    await this.patterns.refresh();
    this.#generation = this.patterns.generation;
    this.#views = viewsOf(this.patterns);
    const failed = this.#hasFailed;
    this.#hasFailed = false;
    this.#retries = false;
    // What failed may have gone from the verdicts since, and must be decided about again all the same.
    return this.#forget() || failed;
  }

  /** Forgets what failed, and what a changed descriptor said; whether there was anything. */
  #forget(): boolean {
    let forgot = this.#verdicts.forget(
      ({ failed, type, identifier, descriptor }) =>
        failed || !sameDescriptor(this.#descriptor(type, identifier), descriptor),
    );
    for (const [type, { failed, view }] of this.#overall) {
      if (failed || view !== this.#views[type]) forgot = this.#overall.delete(type) || forgot;
    }
    return forgot;
  }

  /**
   * Verdicts may no longer hold: a descriptor changed since they were made, or one that changed is still
   * unread and could be read now. Then `nextBatch` has something to do.
   */
  get isStale(): boolean {
    return this.patterns.generation !== this.#generation || this.patterns.isUnread;
  }

  /**
   * A check could not be made. It counts as denied, which is no reason to decide anew (ACL-40, ACL-41): it
   * may fail for ever, and what is decided at every batch would never be delivered.
   */
  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  /** Has the checks that failed made again with the next batch. Whoever calls this leaves a pause between. */
  retryFailed(): void {
    this.#retries = true;
  }

  /**
   * Whether all identifiers of a type, those to come included, are alike to the caller: then nobody needs
   * to know which there are. That is so where no descriptor tells fields or identifiers apart, or wants its
   * readers audited by identifier, and all of them grant, or all deny. One check per descriptor; where one
   * cannot be made, each identifier is asked about, so that verdicts that were made stay good (ACL-41).
   */
  uniformity(type: DataType): Promise<Uniformity> {
    let known = this.#overall.get(type);
    if (known === undefined) {
      known = this.#makeOverall(type);
      this.#overall.set(type, known);
    }
    return known.uniformity;
  }

  #makeOverall(type: DataType): Overall {
    const view = this.#views[type];
    const overall: Overall = {
      view,
      uniformity: this.#uniformity(type, view).catch(() => {
        overall.failed = true;
        this.#hasFailed = true;
        return 'various';
      }),
      failed: false,
    };
    return overall;
  }

  /** Rejects where a check cannot be made. */
  async #uniformity(type: DataType, { all }: PatternView): Promise<Uniformity> {
    if (all.some(({ descriptor }) => descriptor !== null && !isPlain(descriptor))) return 'various';
    let granted = 0;
    for (const { pattern, descriptor } of all) {
      const seen = await this.#check(type, pattern ?? '', descriptor, null);
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
    const fields = descriptor?.compiled.hasObjectAces ? this.#verdicts.sets.of(type, present) : null;
    const make = () => this.#verdict(type, identifier, descriptor, fields);
    return this.#verdicts.take(type, identifier, fields, make).visibility;
  }

  #verdict(
    type: DataType,
    identifier: string,
    descriptor: StoredDescriptor | null,
    fields: FieldSet | null,
  ): Verdict {
    const verdict: Verdict = {
      type,
      identifier,
      descriptor,
      fields,
      visibility: this.#check(type, identifier, descriptor, fields).catch(() => {
        verdict.failed = true;
        this.#hasFailed = true;
        return NOTHING;
      }),
      failed: false,
    };
    return verdict;
  }

  /** Rejects where the check cannot be made. With a descriptor without owner none can, ever: that denies. */
  async #check(
    type: DataType,
    identifier: string,
    descriptor: StoredDescriptor | null,
    fields: FieldSet | null,
  ): Promise<Visibility> {
    if (descriptor === null || descriptor.compiled.owner === null) return NOTHING;
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
    return this.#verdicts.sets.visibility(fields, answers);
  }

  /**
   * Those of the identifiers present of which the caller may see anything at all, with what (QX-5). An
   * identifier that is missing from the answer is denied, or is not there: nothing tells which.
   *
   * @param used fields that are asked about for each of them, besides those it has
   * @param count hears of each that is in the answer, while others are still unchecked
   */
  async readable(
    type: DataType,
    present: PresentFields,
    used: readonly FieldPath[] = [],
    count: CountName = () => {},
  ): Promise<ReadonlyMap<string, Visibility>> {
    const readable = new Map<string, Visibility>();
    const names = [...present];
    for (let at = 0; at < names.length; at += MAX_CONCURRENT) {
      if (at > 0 && at % TURN === 0) await othersTurn();
      this.over?.throwIfAborted();
      const some = names.slice(at, at + MAX_CONCURRENT);
      const answers = await Promise.all(
        some.map(([name, fields]) =>
          this.visibility(type, name, fields.length === 0 ? used : [...fields, ...used]),
        ),
      );
      for (const [index, [name, fields]] of some.entries()) {
        const visibility = answers[index];
        if (visibility?.visible !== true) continue;
        count(name, fields);
        readable.set(name, visibility);
      }
    }
    return readable;
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
    this.#overall.clear();
    this.caller.close();
  }

  #descriptor(type: DataType, identifier: string): StoredDescriptor | null {
    return this.#views[type].governing(identifier).descriptor;
  }
}

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

/** What conditional ACEs may ask about the data (ACL-55). */
function claimsOf(type: DataType, identifier: string): readonly NamedClaim[] {
  const claim = (name: string, value: string): NamedClaim[] =>
    value.includes('\0') || value.length > MAX_CLAIM_TEXT
      ? []
      : [{ name, type: CLAIM.string, flags: 0, values: [value] }];
  return [...claim('DataType', type), ...claim('Identifier', identifier)];
}
