/** Starts within phase 6 that a test delays: its parts start side by side, and something may break before all of them have. */
import { mock } from 'node:test';
import { EventPipeline } from '../../actors/daemon/eventPipeline.js';
import { RecordPipeline } from '../../actors/daemon/recordPipeline.js';

export class DaemonStarts {
  #mocks: { readonly mock: { restore(): void } }[] = [];
  /** Lets log and metric threads start. */
  startRecords: () => void = () => undefined;
  /** Lets the event path hear that its threads work. */
  tellPath: () => void = () => undefined;

  /** Log and metric threads wait before they start, the next event path when its threads work. */
  hold(): void {
    const records = new Promise<void>((resolve) => {
      this.startRecords = resolve;
    });
    const news = new Promise<void>((resolve) => {
      this.tellPath = resolve;
    });
    const { start: startRecords } = RecordPipeline.prototype;
    const { start: startPath } = EventPipeline.prototype;
    const held = mock.method(RecordPipeline.prototype, 'start', async function (this: RecordPipeline) {
      await records;
      return startRecords.call(this);
    });
    const late = mock.method(EventPipeline.prototype, 'start', async function (this: EventPipeline) {
      late.mock.restore();
      await startPath.call(this);
      await news;
    });
    this.#mocks = [held, late];
  }

  close(): void {
    this.startRecords();
    this.tellPath();
    for (const made of this.#mocks.splice(0)) made.mock.restore();
  }
}
