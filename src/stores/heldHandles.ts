/**
 * Native objects that a record writer's thread has in hand, named where whoever survives the thread can
 * read it: a batch that is never given back would keep its receiver from handing out another one.
 */
import { type DatagramsHandle, native, type SeriesCacheHandle } from '../native/addon.js';

/** One number per kind of object; 0 = none. */
export type HeldHandles = Float64Array<SharedArrayBuffer>;

export const HELD_BATCH = 0;
export const HELD_CACHE = 1;
const KINDS = 2;

export function heldHandles(): HeldHandles {
  return new Float64Array(new SharedArrayBuffer(KINDS * Float64Array.BYTES_PER_ELEMENT));
}

/** Gives back what an ended thread held. */
export function releaseHeld(held: HeldHandles): void {
  const [batch = 0, cache = 0] = held;
  held.fill(0);
  if (batch > 0) native.datagramsRelease(batch as DatagramsHandle);
  if (cache > 0) native.seriesCacheClose(cache as SeriesCacheHandle);
}
