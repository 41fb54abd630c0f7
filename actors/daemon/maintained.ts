/**
 * An actor of the maintenance thread as the daemon sees it (RET-3, LIFE-123, LIFE-124): started once, started
 * again when its thread dies, asked for its dump, ended. What it says beside that is for each of them.
 */
import type { ProcessLog } from '../../src/host/processLog.js';
import type { MaintenanceThread } from '../maintenance/maintenanceThread.js';
import type { ToTenant } from '../maintenance/messages.js';
import type { ActorThread } from '../thread.js';
import { heard, withinMs } from '../threadTalk.js';

interface Message {
  readonly type: string;
}

/** What such an actor is given from outside, whichever it is. */
export interface MaintainedOptions {
  /** Where it runs. */
  readonly maintenance: MaintenanceThread;
  readonly log: ProcessLog;
  /** For the debug socket: what it does, and that it does nothing any more. */
  readonly onInspection: (message: unknown) => void;
  readonly onThreadEnded: (thread: string) => void;
}

/** After its thread has died it starts anew, so late that a database that kills it does little harm, ms. */
const RESTART_MS = 10_000;

export abstract class Maintained<In extends Message, Out extends Message, Dump> {
  readonly #outside: MaintainedOptions;
  readonly #name: string;
  readonly #entry: URL;
  #thread: ActorThread<In, Out | ToTenant> | null = null;
  #ready: Promise<void> | null = null;
  #restart: NodeJS.Timeout | null = null;
  #inspecting = false;
  #stopping = false;

  /** `entry` is the module that exports the `tenant`. */
  protected constructor(outside: MaintainedOptions, name: string, entry: URL) {
    this.#outside = outside;
    this.#name = name;
    this.#entry = entry;
  }

  /** What it is started with, as of now. */
  protected abstract data(): object;

  /** It says something that is not for all of them. */
  protected abstract heard(message: In): void;

  /** It begins, or begins anew: nothing holds that was told or lent to the one before. */
  protected begun(): void {}

  /** It is over, asked or not. */
  protected ended(): void {}

  /**
   * Resolves when it works; the second time, too, for a recovery of the event path leaves it alone (FAIL-15).
   * @throws Error when its thread ends before; the next call tries again
   */
  start(): Promise<void> {
    if (this.#stopping) return Promise.resolve();
    this.#ready ??= heard(this.#start(), ({ type }) => type === 'ready').then(
      () => undefined,
      (error: unknown) => {
        this.#ready = null;
        throw error;
      },
    );
    return this.#ready;
  }

  /** Whether the debug socket hears of it. */
  inspect(on: boolean): void {
    this.#inspecting = on;
    this.#thread?.send({ type: 'inspect', on });
  }

  /** Before the last commits (LIFE-204): it ends what it is at, writes down what it has to, and is gone. */
  async stop(deadlineMs: number): Promise<void> {
    this.#noRestart();
    const thread = this.#thread;
    if (thread === null) return;
    thread.send({ type: 'stop' });
    await withinMs(thread.ended, deadlineMs);
  }

  /** The end, also after a failed start (LIFE-132). Safe twice. */
  async release(): Promise<void> {
    this.#noRestart();
    const thread = this.#thread;
    if (thread === null) return;
    // Not inside SQLite: better-sqlite3 aborts the process when a call fails in a thread being terminated.
    const pong = heard(thread, ({ type }) => type === 'pong').catch(() => undefined);
    thread.send({ type: 'ping' });
    await pong;
    await thread.terminate();
  }

  /** False when there is nobody to be told. */
  protected send(message: Out): boolean {
    this.#thread?.send(message);
    return this.#thread !== null;
  }

  /** @throws Error when the actor is gone, or goes before it answers */
  protected async ask(question: Out, isAnswer: (message: In) => boolean): Promise<In> {
    const thread = this.#thread;
    if (thread === null) throw new Error(`the ${this.#name} is being started again`);
    const answer = heard(thread, isAnswer);
    thread.send(question);
    return answer;
  }

  /** Null when the actor does not answer in time, or is gone (LIFE-230). */
  protected async dump(waitMs: number): Promise<Dump | null> {
    const thread = this.#thread;
    if (thread === null) return null;
    let dump: Dump | null = null;
    const answer = heard(thread, (message) => {
      if (isDumped<Dump>(message)) dump = message.dump;
      return message.type === 'dumped';
    });
    thread.send({ type: 'dump' });
    await withinMs(answer, waitMs).catch(() => false);
    return dump;
  }

  #noRestart(): void {
    this.#stopping = true;
    if (this.#restart !== null) clearTimeout(this.#restart);
  }

  /** One that has never worked may be waited for. */
  #startAgain(): void {
    if (this.#ready === null) this.start().catch(() => undefined);
    else this.#start();
  }

  #start(): ActorThread<In, Out | ToTenant> {
    if (this.#restart !== null) clearTimeout(this.#restart);
    const { maintenance, onInspection } = this.#outside;
    const thread = maintenance.start<In, Out | ToTenant>(this.#name, this.#entry, { ...this.data() });
    this.#thread = thread;
    thread.messages$.subscribe((message) => {
      // What still comes out of the port of one that is gone has been answered for in `ended`.
      if (this.#thread !== thread) return;
      if (isInspection(message)) onInspection(message.message);
      else this.heard(message);
    });
    this.begun();
    if (this.#inspecting) thread.send({ type: 'inspect', on: true });
    void thread.ended.then((error) => this.#ended(thread, error));
    return thread;
  }

  #ended(thread: ActorThread<In, Out | ToTenant>, error: Error | null): void {
    if (this.#thread !== thread) return;
    this.#thread = null;
    const { log, onThreadEnded } = this.#outside;
    this.ended();
    onThreadEnded(this.#name);
    if (this.#stopping) return;
    log.error(
      `thread ${this.#name} ended and is started again: ${error?.message ?? 'it ended unexpectedly'}`,
    );
    this.#restart = setTimeout(() => this.#startAgain(), RESTART_MS).unref();
  }
}

function isDumped<Dump>(message: Message): message is Message & { readonly dump: Dump } {
  return message.type === 'dumped';
}

function isInspection(message: Message): message is Message & { readonly message: unknown } {
  return message.type === 'inspection';
}
