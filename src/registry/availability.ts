/** Whether a registry answers, and who wants to know: both kinds of registry say it alike (HOST-47, FAIL-25). */
import type { WarningLog } from '../host/log.js';
import type { RegistryAvailability } from './registry.js';

export class Availability {
  readonly #listeners = new Set<(state: RegistryAvailability) => void>();
  #reason: string | null = null;

  constructor(private readonly log: WarningLog) {}

  /** Why the registry does not answer; null while it does. */
  get reason(): string | null {
    return this.#reason;
  }

  onChange(listener: (state: RegistryAvailability) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /**
   * @param hasValues something was read before, and goes on being used
   * @returns true when it was available until now; then the log and the listeners are told
   */
  lost(reason: string, hasValues: boolean): boolean {
    const isNews = this.#reason === null;
    this.#reason = reason;
    if (!isNews) return false;
    const kept = hasValues ? ', the last known values stay in force' : '';
    this.log.warn(`registry unavailable${kept}: ${reason}`);
    this.#tell({ available: false, reason });
    return true;
  }

  /** @returns true when it was unavailable until now; then the log and the listeners are told */
  found(): boolean {
    if (this.#reason === null) return false;
    this.#reason = null;
    this.log.warn('registry available again');
    this.#tell({ available: true });
    return true;
  }

  /** Nobody is told anything any more. */
  close(): void {
    this.#listeners.clear();
  }

  #tell(state: RegistryAvailability): void {
    for (const listener of [...this.#listeners]) listener(state);
  }
}
