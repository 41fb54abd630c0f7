/**
 * Streams between actors. Inside a thread an actor hands out an Observable; across threads the same
 * stream runs over a MessagePort and looks the same on both ends.
 */
import type { MessagePort } from 'node:worker_threads';
import { fromEvent, map, type Observable, share, takeUntil } from 'rxjs';

/** One end of a typed two-way stream. `In` is what arrives, `Out` what is sent. */
export interface Link<In, Out> {
  readonly messages$: Observable<In>;
  send(message: Out): void;
  /** Completes both ends. Safe twice. */
  close(): void;
}

/** What a Link needs of a port; `parentPort` and `MessagePort` both have it. */
type PortLike = Pick<MessagePort, 'postMessage' | 'close' | 'on' | 'off' | 'unref'>;

/** Wraps a port. Messages posted before the first subscription wait in the port. */
export function linkPort<In, Out>(port: PortLike): Link<In, Out> {
  const closed$ = fromEvent(port as MessagePort, 'close');
  // Node starts a port when its first 'message' listener is added, so nothing is lost before that.
  const messages$ = (fromEvent(port as MessagePort, 'message') as Observable<In | { data: In }>).pipe(
    map((message) => message as In),
    takeUntil(closed$),
    share(),
  );
  return {
    messages$,
    send: (message) => port.postMessage(message),
    close: () => port.close(),
  };
}
