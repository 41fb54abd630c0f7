/**
 * Paths of the daemon that lead back to `ready` are walked one after the other by the same daemon: its
 * start and end, which cost more than what lies between, are walked by those paths that need them.
 */
import { type AnyMachineSnapshot, getInitialSnapshot, transition } from 'xstate';
import { daemonMachine } from '../../machines/daemon.js';
import { done, LOST_WITH_THEIR_ROWS, leafOf, PHASES, RECOVERY } from './daemonEvents.js';
import { keyOf, type ModelEvent, type Step } from './walk.js';

const START = PHASES.map(done);

/** A path of these events, with the states that the pure machine goes through. */
export function pathOf(events: readonly ModelEvent[]): Step[] {
  let state = getInitialSnapshot(daemonMachine) as AnyMachineSnapshot;
  return events.map((event) => {
    state = after(state, event);
    return { event, value: keyOf(state.value) };
  });
}

function after(state: AnyMachineSnapshot, event: ModelEvent): AnyMachineSnapshot {
  return transition(daemonMachine, state as never, event as never)[0] as AnyMachineSnapshot;
}

/** The events of a path, and those that lead on to `ready`; null where it ends elsewhere. */
function backToReady(events: readonly ModelEvent[]): ModelEvent[] | null {
  let state = events.reduce(after, getInitialSnapshot(daemonMachine) as AnyMachineSnapshot);
  const all = [...events];
  for (let leaf = leafOf(state.value); leaf !== 'ready'; leaf = leafOf(state.value)) {
    if (state.status !== 'active' || state.context.stopping || state.context.failure !== null) return null;
    if (![...PHASES, ...RECOVERY, 'quietly', 'announced'].includes(leaf)) return null;
    all.push(done(leaf));
    state = after(state, done(leaf));
  }
  return all;
}

/** The same events in the same states in fewer paths. */
export function chained(paths: readonly Step[][]): Step[][] {
  const alone: Step[][] = [];
  const heads: ModelEvent[][] = [];
  /** What leaves the first shard as it is: the rows of the daemon itself stay there. */
  const harmless: ModelEvent[][] = [];
  const harmful: ModelEvent[][] = [];
  const losses: ModelEvent[][] = [];
  for (const path of paths) {
    const events = backToReady(path.map(({ event }) => event));
    if (events === null) {
      alone.push(path);
      continue;
    }
    const isStarted = START.every(({ type }, i) => events[i]?.type === type);
    const causes = events.flatMap(({ cause }) => (cause === undefined ? [] : [String(cause)]));
    const tail = events.slice(START.length);
    if (causes.some((cause) => LOST_WITH_THEIR_ROWS.includes(cause))) losses.push(tail);
    // Two breaks in one recovery need two shards that no earlier one has excluded.
    else if (!isStarted || causes.filter(isExclusion).length > 1) heads.push(events);
    else (causes.some(isExclusion) ? harmful : harmless).push(tail);
  }
  // Whoever looks at a store that has lost rows sees less: nothing comes after that.
  const lossy = losses.map((loss, i) => [...START, ...share(harmless, losses.length, i), ...loss]);
  const excluding = heads.map((head, i) => [...head, ...share(harmful, heads.length, i)]);
  return [...alone, ...[...lossy, ...excluding].map(pathOf)];
}

const isExclusion = (cause: string): boolean => cause === 'a damaged page';

/** Every nth of the tails, from the one at `begin` on. */
const share = (tails: readonly ModelEvent[][], n: number, begin: number): ModelEvent[] =>
  tails.filter((_, i) => i % n === begin).flat();
