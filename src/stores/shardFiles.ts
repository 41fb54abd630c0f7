/** Names of shard files and the assignment of CPUs to shards (STO-22, ING-30..32). */

const ACTIVE_NAME = /^shard-(\d{4,})\.db$/;

/** `shard-0007.db` for 7 (STO-22). */
export function shardFileName(index: number): string {
  return `shard-${String(index).padStart(4, '0')}.db`;
}

/** The index in a shard file name, or null for any other file. */
export function shardFileIndex(name: string): number | null {
  const match = ACTIVE_NAME.exec(name);
  return match?.[1] === undefined ? null : Number(match[1]);
}

/**
 * The shards of one CPU, in the order its events go round them (ING-30..32).
 * With no more shards than CPUs every CPU has exactly one; else CPU `c` has `c`, `c + cpus`, ...
 */
export function shardsOfCpu(cpu: number, cpus: number, shards: number): number[] {
  if (shards <= cpus) return [cpu % shards];
  const own: number[] = [];
  for (let shard = cpu; shard < shards; shard += cpus) own.push(shard);
  return own;
}

/** `StorageShards` resolved: 0 means one shard per CPU (ING-29). */
export function shardCount(configured: number, cpus: number): number {
  return configured === 0 ? cpus : configured;
}
