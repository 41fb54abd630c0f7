/** The threads of the daemon in this process, told apart by what they are told and say, so that a test can end one. */
import type { Worker } from 'node:worker_threads';

interface Seen {
  readonly worker: Worker;
  /** It told of its last sequences when asked: a shard's writer does. */
  writer: boolean;
  /** It was told to start: the ring readers' thread is. */
  readers: boolean;
  /** It was given queries. */
  queries: boolean;
}

/** Every thread started between its making and `close`. */
export class DaemonThreads {
  #seen: Seen[] = [];

  constructor() {
    process.on('worker', this.#started);
  }

  /** Living shard writers in the order of their shards. */
  get writers(): Worker[] {
    return this.#seen.filter(({ writer }) => writer).map(({ worker }) => worker);
  }

  /** The living readers' thread; undefined while there is none. */
  get readers(): Worker | undefined {
    return this.#seen.find(({ readers }) => readers)?.worker;
  }

  /** Living query workers, those that have had a query. */
  get queryWorkers(): Worker[] {
    return this.#seen.filter(({ queries }) => queries).map(({ worker }) => worker);
  }

  close(): void {
    process.off('worker', this.#started);
  }

  readonly #started = (worker: Worker): void => {
    const seen: Seen = { worker, writer: false, readers: false, queries: false };
    this.#seen.push(seen);
    worker.on('message', (message: { type: string; dump?: { lastSequences?: unknown } }) => {
      // Only a shard's writer has sequences to tell of; nobody else is waiting for the answer.
      if (message.type === 'ready' && !seen.readers) worker.postMessage({ type: 'dump' });
      if (message.type === 'dumped' && message.dump?.lastSequences instanceof Map) seen.writer = true;
    });
    worker.once('exit', () => {
      this.#seen = this.#seen.filter((other) => other !== seen);
    });
    const post = worker.postMessage.bind(worker);
    worker.postMessage = (message: { type?: string }, ...rest) => {
      if (message.type === 'start') seen.readers = true;
      if (message.type?.startsWith('query.')) seen.queries = true;
      post(message, ...(rest as []));
    };
  };
}
