import { encode } from '../host/msgpack.js';
import type { ProducerIdentity } from '../native/addon.js';
import { ORIGIN_USERSPACE } from './emission.js';
import { reasonOf } from './failure.js';
import { type IdentityStamps, NO_IDENTITY, readProcessStat } from './identity.js';
import { decodeProcessEvents, type ProcessEvent } from './processEvents.js';
import { type ProcessInfo, readProcessInfo, readUid } from './processInfo.js';
import type { Report } from './report.js';
import type { Ring } from './rings.js';
import { type MonotonicClock, TokenBuckets } from './tokenBucket.js';

/**
 * From here on nothing is missing that no `linux.process.lost` tells of. Payload {method, continued} and,
 * where it is known, {unobserved_since}; see {@link Beginning}.
 */
export const BEGIN_TYPE = 'linux.process.begin';
export const EXEC_TYPE = 'linux.process.exec';
export const EXIT_TYPE = 'linux.process.exit';
/** Payload {count, overruns}: events left out, and times the kernel's queue overflowed. */
export const PROCESS_LOST_TYPE = 'linux.process.lost';

/** Process events reported per second; a storm beyond that is only counted. */
const MAX_EVENTS_PER_SECOND = 2000;
/** How long losses add up before they are reported. */
const LOST_REPORT_MS = 1000;
/** Processes whose identity is remembered from exec to exit. */
const MAX_REMEMBERED = 4096;
/** Times in ns, which are bigints, are written as the integers they are. */
const WIDE_INTEGERS = { useBigInt64: true };

/** What is known of the time before a source begins to listen. */
export interface Beginning {
  /** A kmesd ran before this one in the same boot. */
  readonly continued: boolean;
  /** When it is last known to have run, ns: starts and exits since may be on record nowhere. */
  readonly unobservedSince: bigint | null;
}

/** Packed process events (see PROCESS_RECORD_BYTES), and how often the kernel's queue overflowed meanwhile. */
export interface ProcessDelivery {
  readonly records: Uint8Array;
  readonly overruns: number;
}

/**
 * Calls `ready` whenever there is something to take, until the returned function is called. Throws
 * where process events are not permitted.
 */
export type ProcessFeed = (ready: (take: () => ProcessDelivery) => void) => () => void;

/**
 * Turns process starts and exits into events stamped with the identity of the process they are
 * about, as the kernel would: it makes these events in that process's context.
 */
export class ProcessSource {
  readonly #ring: Ring;
  readonly #stamps: IdentityStamps;
  readonly #report: Report;
  readonly #limit: TokenBuckets;
  readonly #identities = new Map<number, ProducerIdentity>();
  #stopFeed: (() => void) | null = null;
  #lostTimer: NodeJS.Timeout | null = null;
  #lost = 0;
  #overruns = 0;

  constructor(ring: Ring, stamps: IdentityStamps, report: Report, now: MonotonicClock) {
    this.#ring = ring;
    this.#stamps = stamps;
    this.#report = report;
    this.#limit = new TokenBuckets(MAX_EVENTS_PER_SECOND, now);
  }

  /** Subscribes, and puts on record that it has. Throws what the feed throws when process events are not available. */
  start(feed: ProcessFeed, { continued, unobservedSince }: Beginning): void {
    this.#stopFeed = feed((take) => this.#deliver(take));
    const payload = { method: 'netlink', continued };
    this.#write(
      BEGIN_TYPE,
      unobservedSince === null ? payload : { ...payload, unobserved_since: unobservedSince },
      NO_IDENTITY,
    );
  }

  /** Safe twice; losses not yet reported are reported. */
  stop(): void {
    this.#stopFeed?.();
    this.#stopFeed = null;
    if (this.#lostTimer !== null) {
      clearTimeout(this.#lostTimer);
      this.#reportLost();
    }
  }

  /** Emits one delivery of the feed. */
  accept(records: Uint8Array, overruns: number): void {
    if (overruns > 0) {
      this.#overruns += overruns;
      // Exits may have been among the lost ones, and pids are used again.
      this.#identities.clear();
    }
    for (const event of decodeProcessEvents(records)) {
      if (!this.#limit.reserve('', 1)) this.#skip(event);
      else if (event.kind === 'exec') this.#exec(event.pid);
      else this.#exit(event);
    }
    if (this.#lost + this.#overruns > 0) {
      this.#lostTimer ??= setTimeout(() => this.#reportLost(), LOST_REPORT_MS);
    }
  }

  #deliver(take: () => ProcessDelivery): void {
    try {
      const { records, overruns } = take();
      this.accept(records, overruns);
    } catch (error) {
      this.stop();
      this.#report.error(`process events are no longer reported: ${reasonOf(error)}`);
    }
  }

  #skip(event: ProcessEvent): void {
    this.#lost += 1;
    this.#identities.delete(event.pid);
  }

  #exec(pid: number): void {
    const info = readProcessInfo(pid);
    const identity =
      info === null ? NO_IDENTITY : this.#stamps.of(info.uid, { pid, startTime: info.startTime });
    if (info !== null) this.#remember(pid, identity);
    this.#write(EXEC_TYPE, execPayload(pid, info), identity);
  }

  #exit(event: Extract<ProcessEvent, { kind: 'exit' }>): void {
    const { pid, exitCode, signal } = event;
    const identity = this.#identities.get(pid) ?? this.#identify(pid);
    this.#identities.delete(pid);
    this.#write(EXIT_TYPE, { pid, exit_code: exitCode, signal }, identity);
  }

  /** A process that was not seen to exec; until its parent has reaped it, /proc still knows it. */
  #identify(pid: number): ProducerIdentity {
    const stat = readProcessStat(pid);
    const uid = readUid(pid);
    return stat === null || uid === null
      ? NO_IDENTITY
      : this.#stamps.of(uid, { pid, startTime: stat.startTime });
  }

  #remember(pid: number, identity: ProducerIdentity): void {
    this.#identities.delete(pid);
    const [oldest] = this.#identities.keys();
    if (this.#identities.size >= MAX_REMEMBERED && oldest !== undefined) this.#identities.delete(oldest);
    this.#identities.set(pid, identity);
  }

  #reportLost(): void {
    this.#lostTimer = null;
    this.#write(PROCESS_LOST_TYPE, { count: this.#lost, overruns: this.#overruns }, NO_IDENTITY);
    this.#lost = 0;
    this.#overruns = 0;
  }

  #write(type: string, payload: Readonly<Record<string, unknown>>, identity: ProducerIdentity): void {
    this.#ring.write(
      ORIGIN_USERSPACE,
      [{ type: Buffer.from(type), payload: encode(payload, WIDE_INTEGERS) }],
      identity,
    );
  }
}

/** A process that ended before it could be looked at leaves only its pid. */
function execPayload(pid: number, info: ProcessInfo | null): Readonly<Record<string, unknown>> {
  if (info === null)
    return { pid, ppid: null, uid: null, comm: null, exe: null, argv: [], command_line: null };
  const { parent, uid, comm, exe, argv, commandLine, argvTruncated } = info;
  const payload = { pid, ppid: parent, uid, comm, exe, argv, command_line: commandLine };
  return argvTruncated ? { ...payload, argv_truncated: true } : payload;
}
