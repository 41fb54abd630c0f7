/**
 * What the daemon does by the clock: pings for the service manager's watchdog (HOST-22), and samples of
 * its own health.
 */

export interface HeartbeatOptions {
  /** True when every thread answers in time. */
  readonly answers: (waitMs: number) => Promise<boolean>;
  readonly ping: () => void;
  readonly report: () => Promise<void>;
  /** A report could not be made; said once until one succeeds. */
  readonly onReportFailed: (error: unknown) => void;
}

export class Heartbeat {
  readonly #options: HeartbeatOptions;
  #watchdog: NodeJS.Timeout | null = null;
  #reports: NodeJS.Timeout | null = null;
  #asking = false;
  #reporting = false;
  #reportFailed = false;
  #stopped = false;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
  }

  /** Pings this often from now on, as long as every thread answers; null = nobody waits for pings. */
  startPings(everyMs: number | null): void {
    if (everyMs === null || this.#watchdog !== null || this.#stopped) return;
    this.#watchdog = setInterval(() => void this.#ask(everyMs), everyMs).unref();
  }

  /** Reports this often from now on; 0 = not at all. */
  startReports(everySeconds: number): void {
    if (this.#reports !== null) clearInterval(this.#reports);
    this.#reports = null;
    if (everySeconds === 0 || this.#stopped) return;
    this.#reports = setInterval(() => void this.#report(), everySeconds * 1000).unref();
  }

  /** For good. */
  stop(): void {
    this.#stopped = true;
    for (const timer of [this.#watchdog, this.#reports]) if (timer !== null) clearInterval(timer);
  }

  async #ask(waitMs: number): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    // Who cannot even be asked does not answer.
    const alive = await this.#options.answers(waitMs).catch(() => false);
    this.#asking = false;
    if (alive && !this.#stopped) this.#options.ping();
  }

  async #report(): Promise<void> {
    if (this.#reporting) return;
    this.#reporting = true;
    try {
      await this.#options.report();
      this.#reportFailed = false;
    } catch (error) {
      // A store on a dying disk cannot be measured; that is no reason to stop.
      if (!this.#reportFailed) this.#options.onReportFailed(error);
      this.#reportFailed = true;
    } finally {
      this.#reporting = false;
    }
  }
}
