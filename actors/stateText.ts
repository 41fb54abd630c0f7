import type { StateValue } from 'xstate';

/** A state value on one line: `flow.running.draining + pressure.normal`. */
export function stateText(value: StateValue): string {
  if (typeof value === 'string') return value;
  return Object.entries(value)
    .map(([name, inner]) => (inner === undefined ? name : `${name}.${stateText(inner)}`))
    .join(' + ');
}
