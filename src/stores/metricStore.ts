/** The metric store's file, by the rules of singleStore.ts (MET-51..55). */

import { METRIC_SCHEMA } from './metricSchema.js';
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
export function prepareMetricStore(file: string): StoreCondition {
  return prepareStore(file, METRIC_SCHEMA);
}

/** @throws StoreError; see `openStore` */
export function openMetricStore(file: string): StoreConnection {
  return openStore(file, METRIC_SCHEMA);
}

/** What a query over metrics reads; see `readableFiles`. */
export function metricFiles(file: string, onSkipped: (path: string, reason: string) => void): ReadableFile[] {
  return readableFiles(file, METRIC_SCHEMA, onSkipped);
}

/** For `eventd --check`; see `inspectStore`. */
export function inspectMetricStore(file: string): ReturnType<typeof inspectStore> {
  return inspectStore(file, METRIC_SCHEMA);
}
