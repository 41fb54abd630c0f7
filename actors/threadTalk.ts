/** Waiting for what a worker thread says, and for how long. */
import { filter, firstValueFrom, take } from './rx.js';
import type { ActorThread } from './thread.js';

/** The thread's next message of this kind; rejects when the thread ends first. */
export async function heard<In>(
  thread: ActorThread<In, unknown>,
  wanted: (message: In) => boolean,
): Promise<In> {
  // Nothing may hang on `ended` from here: it lives as long as the thread, and this is called all the time.
  const message = await firstValueFrom(thread.messages$.pipe(filter(wanted), take(1)), {
    defaultValue: null,
  });
  if (message !== null) return message;
  throw (await thread.ended) ?? new Error(`thread ${thread.name} ended`);
}

/** True when the promise settled in time; a rejection in time is the caller's. */
export async function withinMs(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  try {
    return await Promise.race([promise.then(() => true), timeout]);
  } finally {
    clearTimeout(timer);
  }
}
