/** What the diagnostic dump says of the rings. */

/** Peak fill of each ring, 0 to 1. */
export function peakFills(dump: string): number[] {
  return [...dump.matchAll(/^ {2}reader \d+: .* peak fill ([\d.]+)$/gm)].map(([, fill]) => Number(fill));
}
