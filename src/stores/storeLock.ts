/** One eventd per event store: two would both store what the rings hold (STO-29). */
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { native } from '../native/addon.js';
import { StoreError } from './storeError.js';

/**
 * Creates the directory where it is missing (STO-21) and locks it until the returned function is
 * called or the process ends, however it ends. The lock is on the directory itself: no file is left. It must
 * stay there, or an eventd of an older version and this one would not know of each other.
 *
 * @throws StoreError `io` when another process holds it
 */
export function lockEventStore(directory: string): () => void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const fd = openSync(directory, 'r');
  let held = false;
  try {
    held = native.lockFile(fd);
  } finally {
    if (!held) closeSync(fd);
  }
  if (!held) throw new StoreError('io', directory, 'another eventd uses this event store');
  return () => closeSync(fd);
}
