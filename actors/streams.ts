/**
 * Streams between actors. Inside a thread an actor hands out an Observable; across threads the same
 * stream runs over a MessagePort and looks the same on both ends.
 */
import type { MessagePort, Worker } from 'node:worker_threads';
import { Observable, share } from './rx.js';

/** One end of a typed two-way stream. `In` is what arrives, `Out` what is sent. */
export interface Link<In, Out> {
  readonly messages$: Observable<In>;
  send(message: Out): void;
  /** Completes both ends. Safe twice. */
  close(): void;
}

/** Wraps one end of a port. Messages posted before the first subscription wait in the port. */
export function linkPort<In, Out>(port: MessagePort): Link<In, Out> {
  return { ...linkOf<In, Out>(port, 'close'), close: () => port.close() };
}

/** The daemon's end of a worker's `parentPort`. */
export function linkWorker<In, Out>(worker: Worker): Link<In, Out> {
  // The thread closes the port from its side when it is done.
  return { ...linkOf<In, Out>(worker, 'exit'), close: () => undefined };
}

function linkOf<In, Out>(end: MessagePort | Worker, over: 'close' | 'exit'): Omit<Link<In, Out>, 'close'> {
  // rxjs' fromEvent would take the DOM interface of a port, whose messages come wrapped in events.
  const emitter: NodeJS.EventEmitter = end;
  const messages$ = new Observable<In>((subscriber) => {
    const next = (message: In) => subscriber.next(message);
    const complete = () => subscriber.complete();
    emitter.on('message', next);
    emitter.on(over, complete);
    return () => {
      emitter.off('message', next);
      emitter.off(over, complete);
    };
  }).pipe(share());
  return { messages$, send: (message) => end.postMessage(message) };
}
