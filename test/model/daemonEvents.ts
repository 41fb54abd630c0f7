/** What can happen to a daemon in the model, and the names of its phases and steps. */
import type { ModelEvent } from './walk.js';

export const PHASES = [
  'configuring',
  'openingStores',
  'resolvingBoot',
  'attachingKmes',
  'bindingSockets',
  'startingActors',
  'announcingReady',
];
export const RECOVERY = [
  'closingPath',
  'reopeningStores',
  'resolvingAgain',
  'reattachingKmes',
  'restartingActors',
];
export const STEPS = [
  'closingSockets',
  'drainingRings',
  'committing',
  'recordingShutdown',
  'closingStores',
  'releasingRings',
];

/** What breaks the event path. */
export type Break =
  | 'a damaged page'
  | 'a shard cut short'
  | 'a shard removed'
  | 'a shard removed without its WAL'
  | 'a dead writer'
  | 'a dead readers’ thread';

/** Breaks after which a mark keeps the shard from being written. */
const MARKED: readonly Break[] = ['a damaged page', 'a shard cut short'];

/** Breaks after which nobody can read what the shard held. */
export const LOST_WITH_THEIR_ROWS: readonly string[] = [
  'a shard cut short',
  'a shard removed',
  'a shard removed without its WAL',
];

export const stop: ModelEvent = { type: 'stop.requested', reason: 'test' };
export const change: ModelEvent = { type: 'configuration.changed' };
export const reload: ModelEvent = { type: 'reload.requested' };
/** `more` tells the driver how: see there. */
export const broken = (cause: Break, more: Readonly<Record<string, unknown>> = {}): ModelEvent => ({
  type: 'path.failed',
  part: 'any',
  message: cause,
  atMs: 0,
  excluded: MARKED.includes(cause),
  cause,
  ...more,
});

/** `openingStores`, `quietly`, `ready`: the innermost state. */
export function leafOf(value: unknown): string {
  return typeof value === 'string' ? value : leafOf(Object.values(value as Record<string, unknown>)[0]);
}

/** The actor of a phase, step or reload. */
export function idOf(leaf: string): string {
  if (PHASES.includes(leaf)) return `0.daemon.starting.${leaf}`;
  if (RECOVERY.includes(leaf)) return `0.daemon.recoveringPath.${leaf}`;
  if (STEPS.includes(leaf)) return `0.daemon.shuttingDown.${leaf}`;
  return leaf === 'undoing' ? '0.daemon.undoing' : `0.daemon.reloading.${leaf}`;
}

export const done = (leaf: string): ModelEvent => ({ type: `xstate.done.actor.${idOf(leaf)}` });
export const failed = (leaf: string, cause: string): ModelEvent => ({
  type: `xstate.error.actor.${idOf(leaf)}`,
  error: new Error(cause),
  cause,
});
