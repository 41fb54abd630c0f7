/**
 * What the settings of retention mean for rows: how old one may be (RET-2, RET-4, LOG-50, MET-60). A cutoff is
 * the timestamp of the youngest row that goes, so that one can be named for every timestamp a row may have.
 */

const DAY_NS = 86_400_000_000_000n;

/** ns since the Unix epoch; a row of exactly so many days stays. */
export function ageCutoff(nowNs: bigint, days: number): bigint {
  return nowNs - BigInt(days) * DAY_NS - 1n;
}

/** A row looked at to estimate which timestamps hold how much of a database. */
export interface Probe {
  readonly timestamp: bigint;
  /** What the row stands for, in bytes. */
  readonly bytes: number;
}

/** Of the excess, as long as that is large: an estimate may be off, and what is deleted is gone. */
const FIRST_SHARE = 0.75;
/** An excess below this share of everything is aimed at whole. */
const SMALL_EXCESS = 0.02;

/**
 * One cutoff for all databases of a store (RET-13): rows up to it are about as many bytes as are to go.
 * Call it again when they are gone, with new probes, until the rest fits; each round comes nearer.
 *
 * @param excessBytes above 0: by how much everything together is too large
 * @param totalBytes what everything together has now
 * @returns null when there is nothing to delete
 */
export function sizeCutoff(probes: readonly Probe[], excessBytes: number, totalBytes: number): bigint | null {
  const goal = excessBytes > totalBytes * SMALL_EXCESS ? excessBytes * FIRST_SHARE : excessBytes;
  const oldestFirst = [...probes].sort((a, b) =>
    a.timestamp < b.timestamp ? -1 : a.timestamp > b.timestamp ? 1 : 0,
  );
  let sum = 0;
  for (const { timestamp, bytes } of oldestFirst) {
    sum += bytes;
    if (sum >= goal) return timestamp;
  }
  return oldestFirst.at(-1)?.timestamp ?? null;
}

/**
 * Scales what probed rows weigh so that together they stand for the whole database: pages have
 * overhead, indexes and half-empty leaves that no row shows.
 */
export function scaled(probes: readonly Probe[], usedBytes: number): Probe[] {
  const sum = probes.reduce((total, { bytes }) => total + bytes, 0);
  if (sum === 0) return [];
  return probes.map(({ timestamp, bytes }) => ({ timestamp, bytes: (bytes * usedBytes) / sum }));
}
