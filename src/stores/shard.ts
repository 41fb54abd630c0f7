/** Event shards, by the rules of storeFile.ts (STO-20..26, STO-29, STO-30). */
import { EVENT_SCHEMA } from './shardSchema.js';
import { openStore, type StoreConnection, verifyStore } from './storeFile.js';

export type ShardConnection = StoreConnection;

/** @throws StoreError; see `openStore` */
export function openShardWriter(file: string, busyTimeoutMs?: number): ShardConnection {
  return openStore(file, EVENT_SCHEMA, busyTimeoutMs);
}

/** @throws StoreError; see `verifyStore` */
export function verifyShard(file: string): boolean {
  return verifyStore(file, EVENT_SCHEMA);
}
