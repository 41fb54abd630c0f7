/** Drives an advisor along the paths of its machine: what both advisors have in common. */
import assert from 'node:assert/strict';
import type { AnyActorRef } from 'xstate';
import type { ModelEvent, PathDriver, Shadow, Step } from './walk.js';

/** Deeds until a closed advisor, from wherever a path ends. */
const LAST_DEEDS = 5;

export abstract class AdvisorDriver<Context> implements PathDriver {
  protected abstract readonly actor: AnyActorRef;
  protected abstract readonly shadow: Shadow;
  protected abstract readonly reports: readonly { readonly type: string }[];
  /** The event with which its machine is closed. */
  protected abstract readonly closed: ModelEvent;

  /** Turns an event into a deed. */
  protected abstract perform(event: ModelEvent): Promise<void>;

  /** What holds after every step. */
  protected abstract check(): void;

  abstract close(): void;

  async walk(path: readonly Step[]): Promise<void> {
    for (const step of path) {
      await this.perform(step.event);
      this.shadow.compare(this.actor, step);
      this.check();
    }
    for (let deeds = 0; this.actor.getSnapshot().status === 'active'; deeds++) {
      assert.ok(deeds < LAST_DEEDS);
      await this.perform(this.value === 'closing' ? this.closed : { type: 'advisor.stop' });
    }
    this.check();
    assert.equal(this.reports.at(-1)?.type, 'closed');
  }

  protected get value(): string {
    return String(this.actor.getSnapshot().value);
  }

  protected get context(): Context {
    return this.actor.getSnapshot().context as Context;
  }
}
