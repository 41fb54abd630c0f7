/**
 * How random walks run: few and always the same ones in a normal run, `WALKS=500` for a soak with a seed
 * of its own, `FC_SEED` and `FC_PATH`, as a failure prints them, to walk one again.
 */
import type { TestContext } from 'node:test';
import fc, { type Arbitrary, type Parameters } from 'fast-check';

const SEED = 20_260_101;

function walkParameters<Ts>(walks: number): Parameters<Ts> {
  const { FC_SEED, FC_PATH, WALKS } = process.env;
  const seed = FC_SEED ?? (WALKS === undefined ? SEED : Date.now() & 0x7fffffff);
  return {
    numRuns: Number(WALKS ?? walks),
    seed: Number(seed),
    ...(FC_PATH === undefined ? {} : { path: FC_PATH }),
    // Real threads and disks: a shorter walk that fails, too, is found by hand sooner than by trying.
    endOnFailure: true,
    includeErrorInReport: true,
  };
}

/** What to set to walk the same again, should a check outside the walk fail. */
function seedText<Ts>({ seed, numRuns }: Parameters<Ts>): string {
  return `${numRuns} walks, FC_SEED=${seed}`;
}

/**
 * Runs each sequence of commands on a walk of its own.
 *
 * @param walks how many there are in a normal run
 */
export async function walkRandomly<Command>(
  t: TestContext,
  sequences: Arbitrary<Command[]>,
  walks: number,
  begin: () => { run(commands: readonly Command[]): Promise<void>; close(): Promise<void> },
): Promise<void> {
  const parameters = walkParameters<[Command[]]>(walks);
  t.diagnostic(seedText(parameters));
  const property = fc.asyncProperty(sequences, async (commands) => {
    const walk = begin();
    try {
      await walk.run(commands);
    } finally {
      await walk.close();
    }
  });
  await fc.assert(property, parameters);
}
