/** What an earlier phase made; the order of the daemon's machine guarantees it. */
export function present<T>(value: T | null, what: string): T {
  if (value === null) throw new Error(`${what}: not there yet`);
  return value;
}
