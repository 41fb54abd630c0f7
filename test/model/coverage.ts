/**
 * How much of a machine real actors have walked. States and transitions are enumerated from the machine's
 * own configuration, so that a new one counts as missing until something leads there.
 *
 *     const coverage = new Coverage(cpuReaderMachine);
 *     createActor(machine, { inspect: (event) => coverage.record(event) });
 *     t.diagnostic(coverage.report());   // cpuReader: 28 of 28 transitions, 16 of 16 states
 *     coverage.assertComplete();         // fails with a list of what is missing
 */
import assert from 'node:assert/strict';
import type {
  AnyMachineSnapshot,
  AnyStateMachine,
  AnyTransitionDefinition,
  InspectionEvent,
  Snapshot,
} from 'xstate';
import { type DirectedGraphNode, toDirectedGraph } from 'xstate/graph';

/** Keys of states and transitions, each with the reason why no deed leads there. */
export type Impossible = Readonly<Record<string, string>>;

/**
 * Counts what actors of one machine did. Keys do not depend on the machine object, so that actors made
 * with `machine.provide` count, too: `shardWriter.idle` names a state, `shardWriter.idle writer.stop #0`
 * the first candidate of that state for that event.
 */
export class Coverage {
  readonly #machine: AnyStateMachine;
  readonly #transitions = new Map<string, boolean>();
  readonly #states = new Map<string, boolean>();

  constructor(machine: AnyStateMachine) {
    this.#machine = machine;
    const visit = ({ stateNode, edges, children }: DirectedGraphNode): void => {
      // The root is entered by being; a history state is never rested in.
      if (stateNode !== machine.root && stateNode.type !== 'history') this.#states.set(stateNode.id, false);
      for (const { transition: edge } of edges) this.#transitions.set(keyOfEdge(edge), false);
      // The graph leaves eventless transitions out.
      for (const edge of stateNode.always ?? []) this.#transitions.set(keyOfEdge(edge), false);
      children.forEach(visit);
    };
    visit(toDirectedGraph(machine.root));
  }

  /**
   * Takes an inspection event, of which those of other actors are passed over, or a snapshot. Snapshots
   * alone say nothing about transitions.
   */
  record(seen: InspectionEvent | AnyMachineSnapshot): void {
    if (!('type' in seen)) this.#recordStates(seen);
    else if ('snapshot' in seen) this.#recordStates(seen.snapshot);
    if (!('_transitions' in seen) || !this.#isOurs(seen.snapshot)) return;
    for (const edge of seen._transitions) this.#mark(this.#transitions, keyOfEdge(edge));
  }

  /** One line: `cpuReader: 28 of 28 transitions, 16 of 16 states`. */
  report(): string {
    const count = (all: ReadonlyMap<string, boolean>, what: string): string =>
      `${[...all.values()].filter(Boolean).length} of ${all.size} ${what}`;
    return `${this.#machine.id}: ${count(this.#transitions, 'transitions')}, ${count(this.#states, 'states')}`;
  }

  /** What no actor has walked: transitions, then states. */
  get missing(): string[] {
    return [...this.#transitions, ...this.#states].filter(([, done]) => !done).map(([key]) => key);
  }

  /**
   * Fails unless every state was entered and every transition taken, or is listed as impossible. A listed
   * one that was walked after all has no business on the list.
   */
  assertComplete(impossible: Impossible = {}): void {
    const { missing } = this;
    const unexplained = missing.filter((key) => !(key in impossible));
    assert.deepEqual(unexplained, [], `${this.report()}; neither walked nor explained`);
    const needless = Object.keys(impossible).filter((key) => !missing.includes(key));
    assert.deepEqual(needless, [], 'explained as impossible, yet walked or not in the machine');
  }

  /** `assertComplete`, then the report with the number of what was explained. */
  close(impossible: Impossible = {}): string {
    this.assertComplete(impossible);
    const explained = Object.keys(impossible).length;
    return explained === 0 ? this.report() : `${this.report()}, ${explained} explained`;
  }

  #recordStates(snapshot: Snapshot<unknown>): void {
    if (!this.#isOurs(snapshot)) return;
    for (const { id } of snapshot._nodes) this.#mark(this.#states, id);
  }

  #isOurs(snapshot: Snapshot<unknown>): snapshot is AnyMachineSnapshot {
    return (snapshot as Partial<AnyMachineSnapshot>).machine?.id === this.#machine.id;
  }

  #mark(all: Map<string, boolean>, key: string): void {
    if (all.has(key)) all.set(key, true);
  }
}

/** Source, event, and which of the event's candidates. */
function keyOfEdge(edge: AnyTransitionDefinition): string {
  const { source, eventType } = edge;
  const always = (source.always ?? []) as readonly AnyTransitionDefinition[];
  const candidates = always.includes(edge) ? always : (source.transitions.get(eventType) ?? []);
  return `${source.id} ${eventType || '(always)'} #${candidates.indexOf(edge)}`;
}
