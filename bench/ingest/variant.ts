/** Entry of a variant's own process, so that memory and leftovers of one do not colour another. */
import { storeRowByRow } from './rowByRow.js';
import type { Elapsed } from './stopwatch.js';
import { storeTheWholeWay, type WholeWayOptions } from './wholeWay.js';
import { storeWithWriters } from './writers.js';
import type { WriterThreadData } from './writerThread.js';

/** What the process is asked to do: its only argument, as JSON. */
export type VariantTask =
  | { readonly kind: 'rowByRow'; readonly file: string; readonly ringFile: string; readonly events: number }
  | { readonly kind: 'writers'; readonly parts: readonly WriterThreadData[] }
  | { readonly kind: 'wholeWay'; readonly options: WholeWayOptions };

/** What it prints: one JSON line. */
export interface VariantResult extends Elapsed {
  /** Only where a load generator ran beside it. */
  readonly emitted?: number;
  readonly commits?: number;
  /** See WholeWayResult. */
  readonly peakBacklog?: number;
}

async function perform(task: VariantTask): Promise<VariantResult> {
  switch (task.kind) {
    case 'rowByRow':
      return storeRowByRow(task.file, task.ringFile, task.events);
    case 'writers':
      return storeWithWriters(task.parts);
    case 'wholeWay': {
      const { emitted, ...result } = await storeTheWholeWay(task.options);
      return { ...result, emitted: emitted.events };
    }
  }
}

process.stdout.write(`${JSON.stringify(await perform(JSON.parse(process.argv[2] ?? '') as VariantTask))}\n`);
