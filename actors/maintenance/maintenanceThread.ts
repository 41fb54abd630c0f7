/**
 * The thread of retention and of the advisors, as the daemon sees it. A thread costs about 0.1 s of CPU at
 * its start and some MB, and their work is rare and comes in short steps, so they share one. Each sees
 * a thread of its own: a link, an end, and when the one thread dies they all hear it.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { defer, EMPTY } from '../rx.js';
import { linkPort } from '../streams.js';
import type { ActorThread } from '../thread.js';
import type { Tenancy, TenantGone } from './tenant.js';

const ENTRY = new URL('./worker.js', import.meta.url);

interface Guest {
  readonly name: string;
  /** The one it was started in: another may follow while that one is still ending. */
  readonly worker: Worker;
  readonly port: MessagePort;
  /** A port also closes when the thread dies; its guest is done when it has said so, too. */
  closed: boolean;
  gone: boolean;
  readonly end: (error: Error | null) => void;
}

export class MaintenanceThread {
  #worker: Worker | null = null;
  readonly #guests = new Map<number, Guest>();
  #nextId = 0;

  /** Starts an actor in the thread, and the thread if there is none. */
  start<In, Out>(name: string, entry: URL, data: Record<string, unknown>): ActorThread<In, Out> {
    this.#worker ??= this.#startWorker();
    const worker = this.#worker;
    const id = this.#nextId++;
    const { port1: port, port2 } = new MessageChannel();
    let over = false;
    /** Its port is closed: nothing comes any more, though its end is known only once the thread has told. */
    let silent = false;
    const ended = new Promise<Error | null>((resolve) => {
      const end = (error: Error | null) => {
        over = true;
        this.#guests.delete(id);
        resolve(error);
      };
      this.#guests.set(id, { name, worker, port, closed: false, gone: false, end });
    });
    const link = linkPort<In, Out>(port);
    port.once('close', () => {
      silent = true;
      this.#left(id, 'closed');
    });
    worker.postMessage({ id, entry: entry.href, data, port: port2 } satisfies Tenancy, [port2]);
    const messages$ = defer(() => (over || silent ? EMPTY : link.messages$));
    return { ...link, messages$, name, ended, terminate: () => this.#evict(id) };
  }

  #startWorker(): Worker {
    const worker = new Worker(ENTRY, { name: 'maintenance' });
    let failure: string | null = null;
    worker.on('message', ({ id }: TenantGone) => this.#left(id, 'gone'));
    worker.once('error', (error) => {
      failure = error.message;
    });
    worker.once('exit', (code) => {
      if (this.#worker === worker) this.#worker = null;
      for (const { name, worker: home, end } of [...this.#guests.values()]) {
        if (home === worker) end(new Error(failure ?? `thread ${name} ended with code ${code}`));
      }
    });
    return worker;
  }

  #left(id: number, how: 'closed' | 'gone'): void {
    const guest = this.#guests.get(id);
    if (guest === undefined) return;
    guest[how] = true;
    if (!guest.closed || !guest.gone) return;
    guest.end(null);
    void this.#leave();
  }

  /** Who evicts a guest has asked it for an answer before, so that the thread is not inside SQLite. */
  async #evict(id: number): Promise<void> {
    const guest = this.#guests.get(id);
    guest?.end(null);
    guest?.port.close();
    await this.#leave();
  }

  /** The last guest takes the thread along. */
  async #leave(): Promise<void> {
    if (this.#guests.size > 0) return;
    const worker = this.#worker;
    this.#worker = null;
    await worker?.terminate();
  }
}
