/** Connects a record writer to its thread's port: reports, commands, inspection. */
import { parentPort } from 'node:worker_threads';
import { native } from '../src/native/addon.js';
import { InspectionFeed } from './inspector/feed.js';
import type { FromRecordWriter, ToRecordWriter } from './messages.js';
import type { RecordWriter } from './recordWriter.js';
import type { Observable } from './rx.js';
import { linkPort } from './streams.js';

/** Runs the writer that `start` makes until it is closed. `name` is the thread's on the debug socket. */
export function runRecordWriterThread(
  name: string,
  start: (commands$: Observable<ToRecordWriter>) => RecordWriter,
): void {
  if (parentPort === null) throw new Error(`${name} runs as a worker thread only`);
  native.threadBatch();
  const daemon = linkPort<ToRecordWriter, FromRecordWriter>(parentPort);
  const writer = start(daemon.messages$);
  const feed = new InspectionFeed(name, (message) => daemon.send({ type: 'inspection', message }));
  feed.watch(writer.actor);
  daemon.messages$.subscribe((message) => {
    if (message.type === 'inspect') feed.enable(message.on);
  });
  writer.reports$.subscribe({ next: (report) => daemon.send(report), complete: () => daemon.close() });
}
