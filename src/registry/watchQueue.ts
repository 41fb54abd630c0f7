/** What a watch has to tell and nobody has taken yet (HOST-43, HOST-63). */
import { type RegistryEvent, WATCH_QUEUE_LIMIT } from './registry.js';

/** Bounded: beyond the limit the oldest events give way to one overflow. */
export class WatchQueue {
  #events: RegistryEvent[] = [];

  /** @param notify called by `push` when the queue turns non-empty */
  constructor(private readonly notify: () => void) {}

  /** Queues all of them before anybody is told. */
  push(events: readonly RegistryEvent[]): void {
    const wasEmpty = this.#events.length === 0;
    for (const event of events) this.#push(event);
    if (wasEmpty && this.#events.length > 0) this.notify();
  }

  #push(event: RegistryEvent): void {
    this.#events.push(event);
    if (this.#events.length <= WATCH_QUEUE_LIMIT) return;
    // The overflow takes the place of everything dropped so far.
    const kept = this.#events.filter(({ type }) => type !== 'overflow').slice(1 - WATCH_QUEUE_LIMIT);
    this.#events = [{ type: 'overflow' }, ...kept];
  }

  take(): readonly RegistryEvent[] {
    return this.#events.splice(0);
  }

  clear(): void {
    this.#events = [];
  }
}
