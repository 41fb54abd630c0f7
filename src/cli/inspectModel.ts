/**
 * What the debug socket says, read with suspicion: newline-delimited JSON in the Stately inspection
 * vocabulary, and eventd's own lines (`@eventd.*`). Lines that are no JSON, or of a type not known here,
 * mean nothing and are passed over.
 */

/** A state value: `idle`, or nested `{draining: 'waiting', pressure: 'normal'}`. */
export interface ActorView {
  readonly sessionId: string;
  readonly name: string;
  readonly parentId: string | null;
  /** `idle`, `running.waiting, normal`; empty for actors that are no machines. */
  readonly state: string;
  /** `active`, `done`, `error` or `stopped`. */
  readonly status: string;
  readonly tags: readonly string[];
  /** Numbers at the top level of the context, as text. */
  readonly numbers: readonly (readonly [string, string])[];
  /** A one-shot task or a resource of another actor, as far as its definition tells. */
  readonly isHelper: boolean;
}

/** Counts of one actor: numbers, and text for what may exceed 2^53. */
export type FigureValues = Readonly<Record<string, number | string | boolean | null>>;

/** What one line changed. */
export type InspectChange =
  | { readonly kind: 'ready' }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'figures'; readonly at: number }
  | { readonly kind: 'actor'; readonly actor: ActorView; readonly isNew: boolean; readonly at: number }
  | {
      readonly kind: 'snapshot';
      readonly before: ActorView;
      readonly actor: ActorView;
      readonly event: string | null;
      readonly at: number;
    };

/** Actors remembered at most; sessions come and go for as long as one looks on. */
const MAX_ACTORS = 10_000;
/** Actors and counts of each that one line of figures may hold. */
const MAX_FIGURES = 10_000;
const MAX_STATE_DEPTH = 16;

type JsonObject = { readonly [key: string]: unknown };

/** The actors as the lines so far describe them. */
export class InspectModel {
  readonly #actors = new Map<string, ActorView>();
  #figures: ReadonlyMap<string, FigureValues> = new Map();

  /** All actors, in the order they were announced. */
  get actors(): readonly ActorView[] {
    return [...this.#actors.values()];
  }

  /** The newest figures by actor name. */
  get figures(): ReadonlyMap<string, FigureValues> {
    return this.#figures;
  }

  /** Takes one line; null when it changes nothing. */
  line(text: string): InspectChange | null {
    const message = parseObject(text);
    if (message === null) return null;
    const at = timeOf(message.createdAt);
    switch (message.type) {
      case '@eventd.ready':
        return { kind: 'ready' };
      case '@eventd.refused':
        return { kind: 'refused', reason: typeof message.reason === 'string' ? message.reason : 'refused' };
      case '@eventd.figures':
        this.#figures = figuresOf(asObject(message.figures));
        return { kind: 'figures', at };
    }
    if (typeof message.sessionId !== 'string') return null;
    if (message.type === '@xstate.actor') {
      const isNew = !this.#actors.has(message.sessionId);
      return { kind: 'actor', actor: this.#announce(message, message.sessionId), isNew, at };
    }
    if (message.type !== '@xstate.snapshot') return null;
    const before = this.#actors.get(message.sessionId) ?? this.#announce(message, message.sessionId);
    const actor = withSnapshot(before, asObject(message.snapshot));
    // Finished actors are told once more, then forgotten: else every session of the past stays.
    if (actor.status === 'active') this.#actors.set(actor.sessionId, actor);
    else this.#actors.delete(actor.sessionId);
    const event = asObject(message.event).type;
    return { kind: 'snapshot', before, actor, event: typeof event === 'string' ? event : null, at };
  }

  #announce(message: JsonObject, sessionId: string): ActorView {
    const actor = withSnapshot(
      {
        sessionId,
        name: typeof message.name === 'string' && message.name !== '' ? message.name : sessionId,
        parentId: typeof message.parentId === 'string' ? message.parentId : null,
        state: '',
        status: 'active',
        tags: [],
        numbers: [],
        isHelper: typeof message.parentId === 'string' && isNoMachine(message.definition),
      },
      asObject(message.snapshot),
    );
    if (this.#actors.size >= MAX_ACTORS) {
      const [oldest] = this.#actors.keys();
      if (oldest !== undefined) this.#actors.delete(oldest);
    }
    this.#actors.set(sessionId, actor);
    return actor;
  }
}

function withSnapshot(actor: ActorView, snapshot: JsonObject): ActorView {
  return {
    ...actor,
    state: 'value' in snapshot ? stateText(snapshot.value) : actor.state,
    status: typeof snapshot.status === 'string' ? snapshot.status : actor.status,
    tags: Array.isArray(snapshot.tags)
      ? snapshot.tags.filter((tag): tag is string => typeof tag === 'string')
      : actor.tags,
    numbers: 'context' in snapshot ? numbersOf(asObject(snapshot.context)) : actor.numbers,
  };
}

/** `idle`; `running.waiting, normal`: regions side by side need no names, their states tell them apart. */
export function stateText(value: unknown): string {
  return statePaths(value, 0).join(', ');
}

function statePaths(value: unknown, depth: number): string[] {
  if (typeof value === 'string') return [value];
  if (depth >= MAX_STATE_DEPTH) return [];
  const regions = Object.entries(asObject(value));
  return regions.flatMap(([region, inner]) => {
    const paths = statePaths(inner, depth + 1);
    if (paths.length === 0) return [region];
    return regions.length > 1 ? paths : paths.map((path) => `${region}.${path}`);
  });
}

/** True when the definition says what the actor is, and it is not a machine. */
function isNoMachine(definition: unknown): boolean {
  if (typeof definition !== 'string') return false;
  const parsed = parseObject(definition);
  return parsed !== null && !('states' in parsed);
}

/** Numbers, and bigints, which the socket writes as decimal text. */
function numbersOf(context: JsonObject): (readonly [string, string])[] {
  return Object.entries(context).flatMap(([key, value]) => {
    if (typeof value === 'number') return [[key, String(value)] as const];
    return typeof value === 'string' && /^-?\d{1,20}$/.test(value) ? [[key, value] as const] : [];
  });
}

function figuresOf(figures: JsonObject): ReadonlyMap<string, FigureValues> {
  return new Map(
    Object.entries(figures)
      .slice(0, MAX_FIGURES)
      .map(([name, values]) => [
        name,
        Object.fromEntries(
          Object.entries(asObject(values)).filter(
            (entry): entry is [string, number | string | boolean] =>
              typeof entry[1] === 'number' || typeof entry[1] === 'string' || typeof entry[1] === 'boolean',
          ),
        ),
      ]),
  );
}

function timeOf(createdAt: unknown): number {
  const ms = typeof createdAt === 'string' || typeof createdAt === 'number' ? Number(createdAt) : Number.NaN;
  return Number.isFinite(ms) ? ms : Date.now();
}

function parseObject(text: string): JsonObject | null {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

function asObject(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
