/**
 * A worker thread that hosts actors: its link, and its end. XState has no worker actor; this is what
 * the daemon supervises instead.
 */
import { type MessagePort, Worker } from 'node:worker_threads';
import { defer, EMPTY } from './rx.js';
import { type Link, linkWorker } from './streams.js';

export interface ActorThread<In, Out> extends Link<In, Out> {
  readonly name: string;
  /** Resolves when the thread has ended: null after a clean end, else what was wrong. */
  readonly ended: Promise<Error | null>;
  /** Ends the thread now, whatever it does. */
  terminate(): Promise<void>;
}

/** Starts the worker entry at `entry`; `ports` are transferred with `data`. */
export function startThread<In, Out>(
  name: string,
  entry: URL,
  data: Record<string, unknown>,
  ports: readonly MessagePort[] = [],
): ActorThread<In, Out> {
  const worker = new Worker(entry, { name, workerData: data, transferList: [...ports] });
  let failure: Error | null = null;
  let over = false;
  const ended = new Promise<Error | null>((resolve) => {
    worker.once('error', (error) => {
      failure = new Error(`thread ${name} failed: ${error.message}`, { cause: error });
    });
    worker.once('exit', (code) => {
      over = true;
      resolve(failure ?? (code === 0 ? null : new Error(`thread ${name} ended with code ${code}`)));
    });
  });
  const link = linkWorker<In, Out>(worker);
  // Who listens to a thread that has ended hears at once that nothing comes.
  const messages$ = defer(() => (over ? EMPTY : link.messages$));
  return { ...link, messages$, name, ended, terminate: async () => void (await worker.terminate()) };
}
