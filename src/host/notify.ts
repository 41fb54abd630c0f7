/**
 * The Notify port: readiness and life signs for the service manager (HOST-8..13, HOST-54, HOST-55), and what
 * its time limits mean for eventd (HOST-18, HOST-22).
 */
import { messageOf } from './errorMessage.js';
import type { WarningLog } from './log.js';

/** Sends one datagram to a Unix socket; a leading `@` means the abstract namespace. */
export type SendDatagram = (path: string, data: Uint8Array) => void;

type Environment = Record<string, string | undefined>;

const MAX_STATUS_CHARACTERS = 512;

/** Speaks to whoever started eventd. Without a socket every call succeeds and does nothing. */
export class Notifier {
  #failureLogged = false;

  constructor(
    /** Null = nobody listens. */
    readonly path: string | null,
    private readonly send: SendDatagram,
    private readonly log: WarningLog,
    /** CLOCK_MONOTONIC in ns. */
    private readonly monotonicNs: () => bigint = process.hrtime.bigint,
  ) {}

  /** Takes `NOTIFY_SOCKET` out of the environment, so that child processes do not inherit it. */
  static fromEnvironment(environment: Environment, send: SendDatagram, log: WarningLog): Notifier {
    const path = environment.NOTIFY_SOCKET;
    delete environment.NOTIFY_SOCKET;
    return new Notifier(path || null, send, log);
  }

  /** All startup phases are done, or a reload is (HOST-10, HOST-20). */
  ready(status?: string): void {
    this.#message(['READY=1', ...statusLine(status)]);
  }

  /** A graceful stop has begun. */
  stopping(status?: string): void {
    this.#message(['STOPPING=1', ...statusLine(status)]);
  }

  /** A reload has begun; `ready` ends it. */
  reloading(): void {
    this.#message(['RELOADING=1', `MONOTONIC_USEC=${this.monotonicNs() / 1000n}`]);
  }

  status(text: string): void {
    this.#message(statusLine(text));
  }

  /** Replaces the deadline of the running start, stop or reload (HOST-12). */
  extendTimeout(microseconds: number): void {
    this.#message([`EXTEND_TIMEOUT_USEC=${Math.max(0, Math.round(microseconds))}`]);
  }

  watchdog(): void {
    this.#message(['WATCHDOG=1']);
  }

  #message(lines: readonly string[]): void {
    if (this.path === null) return;
    try {
      this.send(this.path, Buffer.from(lines.join('\n'), 'utf8'));
    } catch (error) {
      if (this.#failureLogged) return;
      this.#failureLogged = true;
      const reason = messageOf(error);
      this.log.warn(`cannot notify the service manager on ${this.path}: ${reason}`);
    }
  }
}

function statusLine(text: string | undefined): string[] {
  if (text === undefined) return [];
  // One line per assignment: a line end inside would start another one.
  return [`STATUS=${text.replace(/\s+/g, ' ').trim().slice(0, MAX_STATUS_CHARACTERS)}`];
}

/**
 * The longest limit that is taken at its word, ms. "No limit" is written as the largest number there is, and
 * a timer that shall wait for more than 2^31 - 1 ms does not wait at all.
 */
const LONGEST_MS = 24 * 3600 * 1000;

/**
 * How long the whole shutdown may take, ms: one second less than the service manager waits (LIFE-210, HOST-18).
 *
 * @param stopTimeoutSeconds `StopTimeout` of the service key
 */
export function stopBoundMs(stopTimeoutSeconds: number): number {
  return Math.min(Math.max(stopTimeoutSeconds - 1, 1) * 1000, LONGEST_MS);
}

/**
 * Milliseconds between watchdog pings, a third of the configured time (HOST-22); null = off.
 * `WATCHDOG_USEC` counts unless `WATCHDOG_PID` names another process; else the service key decides.
 *
 * @param serviceSeconds `WatchdogTimeout` of the service key, 0 = off
 */
export function watchdogPingMs(
  environment: Readonly<Environment>,
  pid: number,
  serviceSeconds: number,
): number | null {
  const { WATCHDOG_USEC: microseconds, WATCHDOG_PID: owner } = environment;
  const ours = owner === undefined || owner === String(pid);
  const set = microseconds !== undefined && /^[0-9]{1,15}$/.test(microseconds) && ours;
  const timeoutMs = Math.min(set ? Number(microseconds) / 1000 : serviceSeconds * 1000, LONGEST_MS);
  return timeoutMs > 0 ? Math.max(1, Math.floor(timeoutMs / 3)) : null;
}
