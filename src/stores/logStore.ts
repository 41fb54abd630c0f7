/** The log store's file, by the rules of singleStore.ts (LOG-37..42). */

import { LOG_SCHEMA } from './logSchema.js';
import type { ReadableFile } from './readConnection.js';
import {
  inspectStore,
  openStore,
  prepareStore,
  readableFiles,
  type StoreCondition,
  type StoreConnection,
} from './singleStore.js';

/** @throws StoreError `io`; see `prepareStore` */
export function prepareLogStore(file: string): StoreCondition {
  return prepareStore(file, LOG_SCHEMA);
}

/** @throws StoreError; see `openStore` */
export function openLogStore(file: string): StoreConnection {
  return openStore(file, LOG_SCHEMA);
}

/** What a query over logs reads; see `readableFiles`. */
export function logFiles(file: string, onSkipped: (path: string, reason: string) => void): ReadableFile[] {
  return readableFiles(file, LOG_SCHEMA, onSkipped);
}

/** For `eventd --check`; see `inspectStore`. */
export function inspectLogStore(file: string): ReturnType<typeof inspectStore> {
  return inspectStore(file, LOG_SCHEMA);
}
