/** The tables at the end of a soak. */
import { table } from '../../bench/table.js';
import type { KillSummary } from '../fixtures/eventdKills.js';
import { KILL_KINDS } from './plan.js';

export function summaryOf(summary: KillSummary, elapsedMs: number): string {
  const { kills, shards, faults, starts } = summary;
  const total = Object.values(kills).reduce((sum, count) => sum + count, 0);
  const ms = (at: number) => Math.round(starts[Math.min(starts.length - 1, at)] ?? 0);
  const rows = (pairs: readonly (readonly [string, number])[]) => table(['', 'number'], pairs);
  return [
    rows([
      ...KILL_KINDS.map((kind) => [`kill -9: ${kind}`, kills[kind]] as const),
      ['kill -9 of eventd in all', total],
      ['  with StorageShards below the rings', shards.below],
      ['  equal to them', shards.equal],
      ['  above them', shards.above],
      ['kill -9 of kmesd', summary.kmesdKills],
      ['boots', summary.boots],
      ['accounts of every sequence', summary.accounts],
    ]),
    rows([
      ['events emitted', summary.emitted],
      ['stored', summary.stored],
      ['in gap records', summary.gapped],
      ['gap records', summary.gapRecords],
      ['gone with their boot', summary.endedWithBoot],
      ['lost', faults.counts.lost],
      ['duplicated', faults.counts.duplicated],
      ['wrongly recorded', faults.counts.wrong],
      ['failed processes', faults.counts.process],
    ]),
    rows([
      ['starts', starts.length],
      ['spawn to READY, median ms', ms(starts.length >> 1)],
      ['spawn to READY, longest ms', ms(starts.length - 1)],
      ['duration, s', Math.round(elapsedMs / 1000)],
    ]),
  ].join('\n\n');
}
