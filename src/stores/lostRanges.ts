/** Lost sequences in words: for the log line of a failed commit (FAIL-6). */
/** A run of one CPU's sequences. */
interface LostRange {
  readonly cpu: number;
  readonly first: bigint;
  readonly last: bigint;
}

/** Entries of one line; what is beyond is counted. Runs of even steps make one entry each. */
const MAX_ENTRIES = 200;

/**
 * `cpu 0: 1-90`, or `cpu 1: 7-93 step 2` where several shards share a CPU and each lost batch holds
 * only every other sequence.
 *
 * @param ranges in the order of the batch; those of one CPU ascending
 */
export function describeLostRanges(ranges: readonly LostRange[]): string[] {
  const cpus = new Map<number, LostRange[]>();
  for (const range of ranges) {
    const known = cpus.get(range.cpu);
    if (known === undefined) cpus.set(range.cpu, [range]);
    else known.push(range);
  }
  const entries = [...cpus].flatMap(([cpu, own]) => stepped(own).map((text) => `cpu ${cpu}: ${text}`));
  if (entries.length <= MAX_ENTRIES) return entries;
  return [...entries.slice(0, MAX_ENTRIES), `and ${entries.length - MAX_ENTRIES} more ranges`];
}

function stepped(ranges: readonly LostRange[]): string[] {
  const texts: string[] = [];
  for (let at = 0; at < ranges.length; ) {
    const first = ranges[at];
    if (first === undefined) break;
    const step = stepAt(ranges, at);
    let end = at + 1;
    while (step !== null && isStep(ranges, end, step)) end++;
    const last = ranges[end - 1] ?? first;
    if (step !== null && end - at > 2) texts.push(`${first.first}-${last.last} step ${step}`);
    else {
      end = at + 1;
      texts.push(first.first === first.last ? `${first.first}` : `${first.first}-${first.last}`);
    }
    at = end;
  }
  return texts;
}

/** The distance of two neighbouring single sequences; null when they are none. */
function stepAt(ranges: readonly LostRange[], at: number): bigint | null {
  const [here, next] = [ranges[at], ranges[at + 1]];
  if (here === undefined || next === undefined || here.first !== here.last) return null;
  return next.first === next.last ? next.first - here.first : null;
}

function isStep(ranges: readonly LostRange[], at: number, step: bigint): boolean {
  return stepAt(ranges, at - 1) === step;
}
