/**
 * A lease: leave to write to a database beside its writer, for one small transaction (RET-8, LOG-52, MET-58).
 */

declare const lease: unique symbol;

/**
 * The number of a lease. The daemon's `LeaseDesk` issues it, one for each request, and no number twice in a
 * process. How an actor of the maintenance thread numbers its requests is between it and its desk.
 *
 *     actor → LeaseDesk → LeaseQueue (metric store only) → pipeline → writer, which grants it; and back
 *
 * A return goes the same way. It is dropped where nothing was lent: by the desk when it has been answered
 * for already, by the queue when the turn had not come, by the pipeline when the writer is gone, whose
 * successor knows no series yet. The writer drops none. It has gone on by itself after `LEASE_BOUND_MS`, and
 * the queue lets the next one ask after twice that; a return that comes later ends no other lease, but
 * what it says of deleted series still holds (MET-37, `SeriesCacheGuard`).
 */
export type LeaseId = number & { readonly [lease]: true };

/** What a writer has before the first. */
export const NO_LEASE = 0 as LeaseId;
