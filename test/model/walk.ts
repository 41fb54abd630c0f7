/**
 * Walks a machine's paths on the real actor. The graph gives the paths; a driver turns each event into
 * a deed in the world; the pure machine says, event by event, where the actor must be.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import {
  type AnyActorRef,
  type AnyMachineSnapshot,
  type AnyStateMachine,
  type EventObject,
  getInitialSnapshot,
  type InspectionEvent,
  type Observer,
  type SimulatedClock,
  transition,
} from 'xstate';
import { getShortestPaths } from 'xstate/graph';
import type { Coverage } from './coverage.js';

/** An event of the model; only `type` and what guards and actions read matters. */
export type ModelEvent = EventObject & Readonly<Record<string, unknown>>;

/** One step of a path, and the state value that the graph promises after it. */
export interface Step {
  readonly event: ModelEvent;
  readonly value: string;
}

export interface PathOptions {
  readonly input?: unknown;
  /** What the world can do in this state. Only events the machine reacts to are followed. */
  events(state: AnyMachineSnapshot): readonly ModelEvent[];
  /** The part of the context that decides about transitions; counters would make the graph infinite. */
  project(state: AnyMachineSnapshot): unknown;
  readonly limit?: number;
}

/** JSON with bigints as text and keys in order: how states and events are told apart. */
export function keyOf(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => {
    if (typeof part === 'bigint') return `${part}n`;
    if (typeof part !== 'object' || part === null || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

/**
 * The shortest path to every (state, event, previous state): covers transitions, not only states.
 * Paths that begin a longer one are left out.
 */
export function pathsOf(machine: AnyStateMachine, options: PathOptions): Step[][] {
  const paths = getShortestPaths(machine, {
    ...(options.input === undefined ? {} : { input: options.input }),
    events: (state: AnyMachineSnapshot) => options.events(state),
    // `can` is blind to transitions that forbid: neither target nor action, yet a decision.
    filterEvents: (state: AnyMachineSnapshot, event: EventObject) =>
      state.can(event) || machine.getTransitionData(state, event).length > 0,
    serializeEvent: keyOf,
    serializeState: (state: AnyMachineSnapshot, event?: EventObject, previous?: AnyMachineSnapshot) =>
      keyOf([state.value, options.project(state), event, previous?.value]),
    stopWhen: (state: AnyMachineSnapshot) => state.status !== 'active',
    limit: options.limit ?? 20_000,
  } as Parameters<typeof getShortestPaths>[1]);
  const walks = paths.map(({ steps }) =>
    steps
      .filter(({ event }) => event.type !== 'xstate.init')
      .map(({ event, state }) => ({
        event: event as ModelEvent,
        value: keyOf((state as AnyMachineSnapshot).value),
      })),
  );
  const beginnings = new Set<string>();
  for (const walk of walks) {
    for (let n = 0; n < walk.length; n++) beginnings.add(keyOf(walk.slice(0, n).map(({ event }) => event)));
  }
  return walks.filter((walk) => !beginnings.has(keyOf(walk.map(({ event }) => event))));
}

/** A failure on a path, with the path in words. */
export class WalkError extends Error {
  override readonly name = 'WalkError';

  constructor(path: readonly Step[], cause: unknown) {
    const steps = path.map(({ event, value }) => `${keyOf(event)} → ${value}`).join('\n  ');
    super(`${cause instanceof Error ? cause.message : String(cause)}\non the path\n  ${steps}`, { cause });
    if (cause instanceof Error && cause.stack !== undefined) this.stack = `${this.message}\n${cause.stack}`;
  }
}

/** What turns the events of one path into deeds. */
export interface PathDriver {
  walk(path: readonly Step[]): Promise<void>;
  close(): void | Promise<void>;
}

/** Walks each path with a driver of its own. @throws WalkError */
export async function walkAll<Driver extends PathDriver>(
  paths: readonly Step[][],
  driverFor: (path: readonly Step[]) => Driver,
): Promise<void> {
  for (const path of paths) {
    const driver = driverFor(path);
    try {
      await driver.walk(path);
    } catch (error) {
      throw new WalkError(path, error);
    } finally {
      await driver.close();
    }
  }
}

/** A directory for all tests of a file, in memory where that is possible: walks commit some thousand times. */
export function memoryDirectory(): string {
  const root = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'eventd-model-'));
  after(() => rmSync(root, { recursive: true, force: true }));
  return root;
}

/** Follows a real root actor: what it took, and beside it the pure machine fed with the same events. */
export class Shadow {
  readonly #machine: AnyStateMachine;
  readonly #coverage: Coverage;
  #model: AnyMachineSnapshot;
  #root: AnyActorRef | null = null;
  /** Events the actor has processed, eventless steps not counted. */
  readonly seen: ModelEvent[] = [];

  constructor(machine: AnyStateMachine, input: unknown, coverage: Coverage) {
    this.#machine = machine;
    this.#coverage = coverage;
    this.#model = getInitialSnapshot(machine, input) as AnyMachineSnapshot;
  }

  /** Give it to `createActor` as `inspect`. */
  readonly inspect = (event: InspectionEvent): void => {
    if (event.type === '@xstate.actor') this.#root ??= event.actorRef as AnyActorRef;
    if (event.actorRef !== this.#root) return;
    this.#coverage.record(event);
    if (event.type !== '@xstate.event' || event.event.type === 'xstate.init') return;
    const heard = event.event as ModelEvent;
    this.seen.push(heard);
    [this.#model] = transition(this.#machine, this.#model, heard) as [AnyMachineSnapshot, unknown];
  };

  /** The same, for an actor that takes an observer after it was made. */
  get observer(): Observer<InspectionEvent> {
    return { next: this.inspect };
  }

  get model(): AnyMachineSnapshot {
    return this.#model;
  }

  /** Waits until the actor has heard how a deed ended: by an event of this type, and no other before it. */
  async hears(type: string, deed: () => void | Promise<void>, why?: () => string | undefined): Promise<void> {
    const before = this.seen.length;
    await deed();
    await until(type, () => this.seen.length > before);
    assert.equal(this.seen[before]?.type, type, why?.());
  }

  /** Lets so much time pass, which wakes the actor, but not one millisecond early. */
  passes(clock: SimulatedClock, ms: number): void {
    assert.ok(ms > 0);
    const before = this.seen.length;
    clock.increment(ms - 1);
    assert.equal(this.seen.length, before, `${ms} ms had not passed`);
    clock.increment(1);
    assert.equal(this.seen.length, before + 1, `${ms} ms had passed`);
  }

  /** The actor is where the pure machine is, and both are where the path says. */
  compare(actor: AnyActorRef, step: Step): void {
    const real = actor.getSnapshot() as AnyMachineSnapshot;
    assert.deepEqual(real.value, this.#model.value, 'the actor left the model');
    assert.equal(keyOf(real.value), step.value, 'the path ends elsewhere');
    assert.equal(real.status, this.#model.status);
    assert.deepEqual(real.context, this.#model.context, 'the context left the model');
  }
}

/** As long as this `until` looks again each time the event loop comes round, ms; most of what it waits for comes sooner. */
const EAGER_MS = 5;
/** Later it rests at least so long, and this many times as long as the look took: some look into databases. */
const REST_MS = 2;
const REST_PER_LOOK = 3;

/** The real one, whatever clock a test gives to what it watches. */
const clock = performance.now.bind(performance);

/** Waits until `condition` holds, and leaves the processor to the threads that it waits for. */
export async function until(what: string, condition: () => boolean, ms = 10_000): Promise<void> {
  const begun = clock();
  for (;;) {
    const looked = clock();
    if (condition()) return;
    const now = clock();
    if (now - begun > ms) throw new Error(`timed out waiting for ${what}`);
    if (now - begun < EAGER_MS) await turn();
    else await pause(Math.max(REST_MS, REST_PER_LOOK * (now - looked)));
  }
}

/** Holds deeds back until the test lets them go, so that events can be put between their begin and end. */
export class Gates {
  readonly #held = new Map<string, () => void>();

  /** Awaited by the deed. */
  readonly hold = (deed: string): Promise<void> =>
    new Promise((resolve) => {
      if (this.#held.has(deed)) throw new Error(`${deed} began twice`);
      this.#held.set(deed, resolve);
    });

  holds(deed: string): boolean {
    return this.#held.has(deed);
  }

  async release(deed: string): Promise<void> {
    await until(`${deed} to begin`, () => this.#held.has(deed));
    const go = this.#held.get(deed);
    this.#held.delete(deed);
    go?.();
  }

  /** A deed whose state was left goes on unheard; end it, too. */
  drop(deed: string): void {
    this.#held.get(deed)?.();
    this.#held.delete(deed);
  }
}
