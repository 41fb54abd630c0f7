/** Time on the wall and on the processors. */

export interface Elapsed {
  readonly seconds: number;
  /** Processor time of the whole process, all threads, user and system. Other load does not stretch it. */
  readonly cpuSeconds: number;
}

/** Starts measuring; call the result to read it. */
export function startWatch(): () => Elapsed {
  const started = performance.now();
  const before = process.cpuUsage();
  return () => {
    const seconds = (performance.now() - started) / 1000;
    const { user, system } = process.cpuUsage(before);
    return { seconds, cpuSeconds: (user + system) / 1e6 };
  };
}
