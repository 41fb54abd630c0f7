/** What a run of eventd says and stores about commits that failed, and the account of what was lost. */
import assert from 'node:assert/strict';
import { parseGuid } from '../../src/host/guid.js';
import { accountFor, faultsOf } from '../fixtures/accounting.js';
import { BOOT_A, type EventdRun, type EventdWorld, eventually } from '../fixtures/eventd.js';

/** Log entries of failed commits, of one shard or of all. */
export function failuresOf(run: EventdRun, shard?: number): Record<string, unknown>[] {
  const start = shard === undefined ? 'shard ' : `shard ${shard} `;
  return run
    .log()
    .filter(({ msg }) => String(msg).startsWith(start) && String(msg).includes('could not commit'));
}

/** The ranges that one entry of a log line names, `cpu 1: 7-93 step 2` being many. */
function rangesNamed(entry: string): string[] {
  const match = /^cpu (\d+): (\d+)(?:-(\d+)(?: step (\d+))?)?$/.exec(entry);
  assert.ok(match, entry);
  const [, cpu, first = '', last = first, step] = match;
  if (step === undefined) return [`cpu ${cpu}: ${first}-${last}`];
  const singles: string[] = [];
  for (let n = BigInt(first); n <= BigInt(last); n += BigInt(step)) singles.push(`cpu ${cpu}: ${n}-${n}`);
  return singles;
}

/** Emits on every CPU until the log shows that many failed commits of each shard. */
export async function emitUntilFailed(
  world: EventdWorld,
  run: EventdRun,
  { cpus, shards, failures = 1 }: { cpus: number; shards: readonly number[]; failures?: number },
): Promise<void> {
  await eventually(`${failures} failed commits of shards ${shards.join(', ')}`, () => {
    if (shards.every((shard) => failuresOf(run, shard).length >= failures)) return true;
    for (let cpu = 0; cpu < cpus; cpu++) world.emitMany(cpu, 20);
    return false;
  });
}

/**
 * Every sequence of every CPU is stored or in a gap record, once.
 * @param except a CPU, and sequences of it that a file set aside holds: each of them may be missing
 */
export function assertAccounted(
  world: EventdWorld,
  cpus: number,
  except?: { readonly cpu: number; readonly storedElsewhere: ReadonlySet<bigint> },
): void {
  const last = Array.from({ length: cpus }, (_, cpu) => Number(world.sequence(cpu)));
  const accounts = accountFor(world.events, parseGuid(BOOT_A), last);
  if (except === undefined) {
    assert.deepEqual(faultsOf(accounts), []);
    return;
  }
  const { cpu, storedElsewhere } = except;
  const missing = accounts[cpu]?.missing.count ?? 0;
  assert.deepEqual(
    faultsOf(accounts.map((account) => (account.cpu === cpu ? { ...account, missing: NOTHING } : account))),
    [],
  );
  const here = new Set(world.sequences(cpu));
  const inGaps = world.gaps().filter((gap) => gap.cpu === cpu);
  const needed = [...storedElsewhere].filter(
    (sequence) =>
      !here.has(sequence) && !inGaps.some(({ first, last: end }) => first <= sequence && sequence <= end),
  );
  assert.equal(missing, needed.length, 'what is missing is in the file set aside');
}

const NOTHING = { count: 0, examples: [] };

/**
 * The gap records are those of failed commits, for exactly the ranges that the log named at once, and
 * stand in front of everything newer of their CPU in their shard (FAIL-5, FAIL-6).
 */
export function assertLossRecorded(world: EventdWorld, run: EventdRun): void {
  const gaps = world.gaps();
  const recorded = new Set(gaps.map(({ cpu, first, last }) => `cpu ${cpu}: ${first}-${last}`));
  let lost = 0;
  for (const { msg, lost: named, ranges } of failuresOf(run)) {
    lost += Number(ranges);
    const all = (named as string[]).flatMap(rangesNamed);
    assert.equal(all.length, Number(ranges), String(msg));
    for (const range of all) assert.ok(recorded.has(range), `${range} has no gap record`);
  }
  assert.ok(lost > 0);
  assert.equal(gaps.length, lost, 'a gap record for each range and for nothing else');
  for (const { cpu, last, id, shard, payload } of gaps) {
    assert.equal(payload.cause, 'commit_failure');
    assert.equal(payload.revealing_event_timestamp, null);
    const newer = world.rows(shard, `cpu_id = ${cpu} AND sequence > ${last} AND id < ${id}`);
    assert.deepEqual(newer, [], 'gap records come before newer events');
  }
}

/** Failing shards that storage errors name, sorted; each must be from an event store. */
export function reportedShards(world: EventdWorld): number[] {
  return world
    .synthetic('synthetic.storage_error')
    .map(({ payload }) => {
      assert.equal(payload.store_type, 'event');
      return Number(payload.shard_index);
    })
    .sort((a, b) => a - b);
}
