/** What is done to eventd, round by round; everything decided here comes from the seed alone. */
import { Random } from './random.js';

/** The instant at which kill -9 hits eventd. */
export const KILL_KINDS = [
  /** Between the spawn and READY=1. */
  'startup',
  /** Within some ms of READY=1. */
  'ready',
  /** Some time later, under load. */
  'running',
  /** Just as bytes arrive in a shard's WAL. */
  'commit',
  /** Just as a shard file itself is written: at a start, in the middle of a run, or at the last close. */
  'checkpoint',
  /** Some ms after SIGTERM. */
  'shutdown',
  /** Together with kmesd. */
  'both',
  /** Under load, and down for so long that the rings are overwritten to the last byte. */
  'overrun',
] as const;
export type KillKind = (typeof KILL_KINDS)[number];

/** Which of the three checkpoints a `checkpoint` round waits for. */
export type CheckpointAt = 'start' | 'run' | 'stop';

export interface Round {
  readonly kind: KillKind;
  /** Where in the interval of its kind the kill falls, 0..1. */
  readonly instant: number;
  readonly checkpointAt: CheckpointAt;
  /** StorageShards of this run; 0 = one per ring. */
  readonly shards: number;
  /** Events per second of all rings together. */
  readonly rate: number;
  /** ms between the kill and what follows. */
  readonly downMs: number;
  /** Kill kmesd, too, while eventd runs. */
  readonly killKmesd: boolean;
  /** Read the store after the kill. Where that is left out, nobody but eventd has touched its WAL. */
  readonly inspect: boolean;
  /** Bring the store up to date after this round, and account for every sequence. */
  readonly settle: boolean;
  /** How the run that does so is ended. */
  readonly settleWith: 'SIGTERM' | 'SIGKILL';
  /** This round ends the boot: with a reboot after a clean stop, or all at once. */
  readonly reboot: 'no' | 'clean' | 'crash';
}

export interface PlanOptions {
  readonly seed: number;
  readonly rings: number;
  /** Mean events per second. */
  readonly rate: number;
  /** Shards to choose from; by default below, at and above the number of rings. */
  readonly shards?: readonly number[];
  /** Kinds to choose from, with repetitions as weights. */
  readonly kinds?: readonly KillKind[];
}

/** Two rare, eight common: every ten rounds hold each kind. */
const DEFAULT_KINDS: readonly KillKind[] = [...KILL_KINDS, 'startup', 'commit'];
const ROUNDS_PER_SETTLE = 5;
const ROUNDS_PER_BOOT = 9;

export function shardChoices(rings: number): number[] {
  return [...new Set([1, Math.max(1, rings - 1), rings, 0, rings + 1, 2 * rings, 2 * rings + 1])];
}

/** Rounds without end. */
export function* plan(options: PlanOptions): Generator<Round, never> {
  const random = new Random(options.seed);
  const kinds = options.kinds ?? DEFAULT_KINDS;
  const shardsToChoose = options.shards ?? shardChoices(options.rings);
  let bag: KillKind[] = [];
  let shards = random.pick(shardsToChoose);
  for (let number = 1; ; number++) {
    if (bag.length === 0) bag = random.shuffled(kinds);
    const kind = bag.pop() ?? 'running';
    if (random.chance(0.4)) shards = random.pick(shardsToChoose);
    const reboot = number % ROUNDS_PER_BOOT === 0 ? random.pick(['clean', 'crash'] as const) : 'no';
    yield {
      kind,
      instant: random.fraction(),
      checkpointAt: random.pick(['start', 'run', 'stop'] as const),
      shards,
      rate: Math.max(1, Math.round(options.rate * random.pick([0.25, 0.75, 2]))),
      downMs: random.chance(0.5) ? 0 : random.below(200),
      killKmesd: random.chance(0.2),
      inspect: random.chance(0.75),
      settle: kind === 'overrun' || number % ROUNDS_PER_SETTLE === 0 || reboot === 'clean',
      settleWith: random.pick(['SIGTERM', 'SIGKILL'] as const),
      reboot,
    };
  }
}
