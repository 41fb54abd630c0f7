/**
 * The debug socket as the daemon sees it: one stream of what the actors of all threads do, its own among
 * them. Costs nothing while nobody reads.
 */
import type { AnyActorRef } from 'xstate';
import { InspectionFeed, type InspectionMessage } from '../inspector/feed.js';
import { type InspectorOptions, InspectorServer } from '../inspector/server.js';

export class Inspection {
  readonly #feed = new InspectionFeed('main', (message) => this.publish(message));
  #server: InspectorServer | null = null;
  #isOn = false;

  /** Somebody reads: whatever starts now has to tell what it does. */
  get isOn(): boolean {
    return this.#isOn;
  }

  /** Sees root actors of this thread that others create: give it to `createActor` as `inspect`. */
  get discover(): InspectionFeed['discover'] {
    return this.#feed.discover;
  }

  /** Shows an actor of this thread. */
  watch(actor: AnyActorRef): void {
    this.#feed.watch(actor);
  }

  /** What a feed of this or another thread says. */
  readonly publish = (message: unknown): void => this.#server?.publish(message as InspectionMessage);

  /** A thread has ended, in whatever way: so have its actors. */
  readonly threadEnded = (name: string): void => this.#server?.threadEnded(name);

  /**
   * Opens the socket.
   * @param root the daemon's own actor, below which every other one is shown
   * @throws SocketPathError
   */
  async listen(root: AnyActorRef, options: Omit<InspectorOptions, 'root'>): Promise<void> {
    this.#server = await InspectorServer.listen({
      ...options,
      root: this.#feed.session(root),
      enable: (on) => {
        this.#isOn = on;
        this.#feed.enable(on);
        options.enable(on);
      },
    });
  }

  updateAdminGroups(gids: ReadonlySet<number>): void {
    this.#server?.updateAdminGroups(gids);
  }

  /** Safe twice. */
  async close(): Promise<void> {
    await this.#server?.close();
    this.#server = null;
  }
}
