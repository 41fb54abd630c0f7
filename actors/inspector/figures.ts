/** What actors count besides their context, as the debug socket shows it once a second. */

/** Counts as numbers; what may exceed 2^53 as text; null where it is unknown. */
export type ActorFigures = Readonly<Record<string, number | string | boolean | null>>;

/** By actor name. */
export type Figures = Readonly<Record<string, ActorFigures>>;

/** Counters whose growth says most, and the names of their rates per second. */
const RATES: Readonly<Record<string, string>> = { rows: 'rowsPerSecond', events: 'eventsPerSecond' };

/** Adds the rates since the figures before, `elapsedMs` ago; an actor that began anew has none yet. */
export function withRates(now: Figures, before: Figures | null, elapsedMs: number): Figures {
  if (before === null || elapsedMs <= 0) return now;
  return Object.fromEntries(
    Object.entries(now).map(([name, figures]) => {
      const earlier = before[name];
      const rates = Object.entries(RATES).flatMap(([counter, rate]) => {
        const value = countOf(figures[counter]);
        const old = countOf(earlier?.[counter]);
        if (value === null || old === null || value < old) return [];
        return [[rate, Math.round((Number(value - old) * 1000) / elapsedMs)] as const];
      });
      return [name, { ...figures, ...Object.fromEntries(rates) }];
    }),
  );
}

function countOf(value: ActorFigures[string] | undefined): bigint | null {
  return typeof value === 'number' || (typeof value === 'string' && /^\d+$/.test(value))
    ? BigInt(value)
    : null;
}
