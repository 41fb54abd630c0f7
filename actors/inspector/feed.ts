/**
 * What the actors of one thread do, in the Stately inspection vocabulary (design of the debug socket).
 * Costs nothing until somebody listens: only then does the feed attach to the actor systems.
 */
import { threadId } from 'node:worker_threads';
import type { AnyActorRef, InspectionEvent, Subscription } from 'xstate';
import { plain } from './plain.js';

/** One line of the debug socket. */
export interface InspectionMessage {
  readonly type: '@xstate.actor' | '@xstate.event' | '@xstate.snapshot';
  readonly sessionId: string;
  readonly rootId: string;
  /** ms since 1970, as text. */
  readonly createdAt: string;
  readonly id: null;
  readonly _version: string;
  readonly [field: string]: unknown;
}

/** Version of the vocabulary, not of eventd. */
const VOCABULARY_VERSION = '0.7.2';

/** What machines are made of lies deeper than what they remember. */
const DEFINITION_DEPTH = 24;

/** A session may be one of thousands of its machine. */
const definitions = new WeakMap<object, string>();

export class InspectionFeed {
  readonly #roots = new Map<AnyActorRef, Subscription | null>();
  readonly #prefix: string;
  #enabled = false;

  constructor(
    /** Name of the thread, for the eye: several threads may bear it one after the other. */
    thread: string,
    readonly send: (message: InspectionMessage) => void,
  ) {
    // Session ids begin anew in every thread; thread ids are never used twice.
    this.#prefix = threadId === 0 ? thread : `${thread}#${threadId}`;
  }

  /** Shows this actor and everything in its system while somebody listens; forgets it when it is done. */
  watch(root: AnyActorRef): void {
    this.#roots.set(root, null);
    // Its last snapshot is inspected after its observers have heard of the end.
    const forget = () => queueMicrotask(() => this.#forget(root));
    root.subscribe({ complete: forget, error: forget });
    if (!this.#enabled) return;
    this.#announce(root);
    this.#attach(root);
  }

  /** Finds root actors that others create: give it to `createActor` as `inspect`. */
  readonly discover = (event: InspectionEvent): void => {
    if (event.type !== '@xstate.actor') return;
    const actor = event.actorRef as AnyActorRef & { _parent?: AnyActorRef };
    // The actor is still being made when this is called.
    if (actor._parent === undefined) queueMicrotask(() => this.watch(actor));
  };

  /** Turns the feed on, sending the present state of every actor first, or off. */
  enable(on: boolean): void {
    if (on) for (const root of this.#roots.keys()) this.#announce(root);
    if (on === this.#enabled) return;
    this.#enabled = on;
    for (const [root, subscription] of this.#roots) {
      if (on) this.#attach(root);
      else {
        subscription?.unsubscribe();
        this.#roots.set(root, null);
      }
    }
  }

  #forget(root: AnyActorRef): void {
    this.#roots.get(root)?.unsubscribe();
    this.#roots.delete(root);
  }

  #attach(root: AnyActorRef): void {
    this.#roots.set(
      root,
      root.system.inspect((event: InspectionEvent) => this.#inspected(event)),
    );
  }

  #inspected(event: InspectionEvent): void {
    switch (event.type) {
      case '@xstate.actor':
        this.#announce(event.actorRef as AnyActorRef);
        break;
      case '@xstate.event':
        this.send({
          ...this.#base('@xstate.event', event.actorRef as AnyActorRef),
          event: plain(event.event),
          ...(event.sourceRef === undefined
            ? {}
            : { sourceId: this.session(event.sourceRef as AnyActorRef) }),
        });
        break;
      case '@xstate.snapshot':
        this.send({
          ...this.#base('@xstate.snapshot', event.actorRef as AnyActorRef),
          event: plain(event.event),
          snapshot: snapshotOf(event.snapshot),
        });
        break;
    }
  }

  /** The actor and, below it, its children. */
  #announce(actor: AnyActorRef): void {
    const parent = (actor as { _parent?: AnyActorRef })._parent;
    // An actor that is still being made has no snapshot yet.
    const snapshot = (actor.getSnapshot() ?? { status: 'active' }) as {
      children?: Record<string, AnyActorRef>;
    };
    this.send({
      ...this.#base('@xstate.actor', actor),
      name: actor.id,
      ...(parent === undefined ? {} : { parentId: this.session(parent) }),
      definition: definitionOf(actor),
      snapshot: snapshotOf(snapshot),
    });
    for (const child of Object.values(snapshot.children ?? {}))
      if (child !== undefined) this.#announce(child);
  }

  /** The actor's session id, unique in the process. */
  session(actor: AnyActorRef): string {
    return `${this.#prefix}/${actor.sessionId}`;
  }

  #base<T extends InspectionMessage['type']>(type: T, actor: AnyActorRef) {
    let root = actor as AnyActorRef & { _parent?: AnyActorRef };
    while (root._parent !== undefined) root = root._parent;
    return {
      type,
      sessionId: this.session(actor),
      rootId: this.session(root),
      createdAt: String(Date.now()),
      id: null,
      _version: VOCABULARY_VERSION,
    };
  }
}

function snapshotOf(snapshot: unknown): unknown {
  const { status, value, context, tags, children, output, error } = (snapshot ?? {}) as Record<
    string,
    unknown
  >;
  return {
    status,
    value,
    context: plain(context),
    tags: tags instanceof Set ? [...tags] : undefined,
    children: plain(children),
    output: plain(output),
    error: plain(error),
  };
}

/** JSON text of a machine's config; for other logic just its name, as inspectors expect. */
function definitionOf(actor: AnyActorRef): string {
  const config = (actor as { logic?: { config?: unknown } }).logic?.config;
  if (typeof config !== 'object' || config === null || !('states' in config))
    return JSON.stringify({ id: actor.id });
  const known = definitions.get(config);
  if (known !== undefined) return known;
  const definition = JSON.stringify(plain(config, { depth: DEFINITION_DEPTH }));
  definitions.set(config, definition);
  return definition;
}
