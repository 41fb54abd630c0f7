/** Which shards a CPU feeds when some shards must not be written (ING-30..32, FAIL-20). */
import { shardsOfCpu } from './shardFiles.js';

/**
 * The writable shards of one CPU in round-robin order. An excluded shard's turn goes to the next
 * writable index, cyclically; a shard that then has several turns keeps one.
 *
 * @param writable ascending shard numbers, not empty
 */
export function assignShards(
  cpu: number,
  cpus: number,
  shards: number,
  writable: readonly number[],
): number[] {
  const turns = shardsOfCpu(cpu, cpus, shards).map((shard) => nextWritable(shard, writable));
  return [...new Set(turns)];
}

function nextWritable(shard: number, writable: readonly number[]): number {
  const next = writable.find((candidate) => candidate >= shard) ?? writable[0];
  if (next === undefined) throw new RangeError('no writable shard');
  return next;
}
