/**
 * Every actor that runs, with its present state, as the messages of all threads tell it: what a front
 * end that comes later has to be told first. Kept only while somebody reads.
 */
import type { InspectionMessage } from './feed.js';

export class ActorDirectory {
  /** Announcements, each with the newest snapshot, parents before their children. */
  readonly #actors = new Map<string, InspectionMessage>();
  /** Session of the daemon: the root of all. */
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  /**
   * Notes what a message changes.
   *
   * @returns the message as readers shall see it; null when its actor was not announced yet, which the
   *   thread is about to do with its newest state
   */
  take(message: InspectionMessage): InspectionMessage | null {
    const adopted = this.#adopt(message);
    const { sessionId } = adopted;
    if (adopted.type === '@xstate.actor') {
      if (statusOf(adopted) === 'active') this.#actors.set(sessionId, adopted);
      return adopted;
    }
    const announced = this.#actors.get(sessionId);
    if (announced === undefined) return null;
    if (adopted.type === '@xstate.snapshot') {
      if (statusOf(adopted) === 'active') {
        const { snapshot, createdAt } = adopted;
        this.#actors.set(sessionId, { ...announced, snapshot, createdAt });
      } else this.#actors.delete(sessionId);
    }
    return adopted;
  }

  /** The announcements of all that run. */
  actors(): Iterable<InspectionMessage> {
    return this.#actors.values();
  }

  /**
   * Ends every actor of the threads that have borne this name so far, the daemon's own excepted; returns the
   * last snapshot of each. The next thread of that name has not spoken yet.
   */
  endThread(name: string): InspectionMessage[] {
    const ended = [...this.#actors.values()].filter(({ sessionId }) => sessionId.startsWith(`${name}#`));
    return ended.map(({ sessionId, rootId, snapshot, id, _version }) => {
      this.#actors.delete(sessionId);
      return {
        type: '@xstate.snapshot',
        sessionId,
        rootId,
        createdAt: String(Date.now()),
        id,
        _version,
        event: { type: 'xstate.stop' },
        snapshot: { ...(snapshot as object), status: 'stopped' },
      };
    });
  }

  clear(): void {
    this.#actors.clear();
  }

  /** Actors of other systems become children of the daemon. */
  #adopt(message: InspectionMessage): InspectionMessage {
    if (message.rootId === this.#root) return message;
    const isOrphan = message.type === '@xstate.actor' && message.parentId === undefined;
    return { ...message, rootId: this.#root, ...(isOrphan ? { parentId: this.#root } : {}) };
  }
}

function statusOf({ snapshot }: InspectionMessage): unknown {
  return (snapshot as { status?: unknown } | undefined)?.status;
}
