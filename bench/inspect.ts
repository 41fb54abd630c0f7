/**
 * What the debug socket costs the event path: the same burst of events through the whole daemon without
 * the socket, with it, and with a front end reading from it. Variants take turns, round after round, each
 * in an eventd of its own; every run is accounted for. Exits 1 when a socket nobody reads costs more
 * than the limit.
 *
 *   npm run bench:inspect -- [--rounds N] [--events N] [--limit-percent N]
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { parseGuid } from '../src/host/guid.js';
import { runRegistryCommand } from '../src/registry/edit.js';
import { accountFor, faultsOf } from '../test/fixtures/accounting.js';
import { BOOT_A, EventdWorld } from '../test/fixtures/eventd.js';
import { capacityFor, emitEvents, settleDisk } from './ingest/workload.js';
import { benchOptions } from './options.js';
import { table } from './table.js';

const values = benchOptions({
  rounds: { type: 'string', default: '5' },
  events: { type: 'string', default: '800000' },
  'limit-percent': { type: 'string', default: '3' },
});
const CPUS = 2;
const POLL_MS = 5;
const DEADLINE_MS = 60_000;
/** Processor time is counted in hundredths of a second for user space, on every architecture. */
const TICKS_PER_SECOND = 100;

interface Sample {
  readonly eventsPerSecond: number;
  /** Processor time of all of eventd's threads, µs per event. */
  readonly cpuMicros: number;
  /** What the front end was sent meanwhile. */
  readonly inspectedBytes: number;
}

const VARIANTS = [
  { key: 'a', title: 'no debug socket', socket: false, reader: false },
  { key: 'b', title: 'debug socket, nobody reads', socket: true, reader: false },
  { key: 'c', title: 'debug socket, one front end', socket: true, reader: true },
] as const;
type Variant = (typeof VARIANTS)[number];

async function measure({ socket, reader }: Variant, events: number): Promise<Sample> {
  const world = new EventdWorld({ cpus: CPUS, capacity: capacityFor(Math.ceil(events / CPUS)) });
  try {
    if (!socket) await runRegistryCommand(world.paths.hive, 'del', ['DebugSocketPath']);
    const run = await world.start();
    let inspectedBytes = 0;
    const frontEnd = reader ? connect(world.paths.debugSocket) : null;
    frontEnd?.on('data', (chunk) => {
      inspectedBytes += chunk.length;
    });
    if (frontEnd !== null) while (inspectedBytes === 0) await pause(POLL_MS);
    await settleDisk(world.dir);
    const cpuBefore = cpuSeconds(run.pid);
    const started = performance.now();
    const load = emitEvents({ directory: world.paths.kmes, rings: CPUS, events, rate: 0 });
    await load;
    for (let cpu = 0; cpu < CPUS; cpu++) await stored(world, cpu);
    const seconds = (performance.now() - started) / 1000;
    const cpu = cpuSeconds(run.pid) - cpuBefore;
    frontEnd?.destroy();
    const { code } = await run.end();
    if (code !== 0) throw new Error(`eventd ended with ${code}: ${run.stderr}`);
    const last = Array.from({ length: CPUS }, (_, ring) => Number(world.sequence(ring)));
    const accounts = accountFor(world.events, parseGuid(BOOT_A), last);
    const faults = [
      ...faultsOf(accounts),
      ...accounts.flatMap(({ gapped }) => (gapped > 0 ? ['a gap'] : [])),
    ];
    if (faults.length > 0) throw new Error(faults.join('; '));
    return { eventsPerSecond: events / seconds, cpuMicros: (cpu / events) * 1e6, inspectedBytes };
  } finally {
    await world.close();
  }
}

/** Waits for the watermark of a ring's last event, over one small read each time. */
async function stored(world: EventdWorld, cpu: number): Promise<void> {
  const last = world.sequence(cpu);
  const db = new Database(join(world.events, `shard-000${cpu}.db`), { readonly: true });
  try {
    const watermark = db.prepare('SELECT value FROM metadata WHERE key = ?').pluck();
    const deadline = performance.now() + DEADLINE_MS;
    while (BigInt(String(watermark.get(`last_seq.${cpu}`) ?? 0)) < last) {
      if (performance.now() > deadline) throw new Error(`CPU ${cpu} is not stored within ${DEADLINE_MS} ms`);
      await pause(POLL_MS);
    }
  } finally {
    db.close();
  }
}

function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((x, y) => x - y);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

const samples = new Map<Variant, Sample[]>(VARIANTS.map((variant) => [variant, []]));
const rounds = Number(values.rounds);
for (let round = 0; round < rounds; round++) {
  // Each variant comes first as often as the others.
  for (let i = 0; i < VARIANTS.length; i++) {
    const variant = VARIANTS[(round + i) % VARIANTS.length];
    if (variant !== undefined) samples.get(variant)?.push(await measure(variant, Number(values.events)));
  }
}
const medianOf = (variant: Variant, pick: (sample: Sample) => number) =>
  median((samples.get(variant) ?? []).map(pick));
const [without, silent] = VARIANTS;
/** Of the medians; what a variant costs in percent. */
const cost = (variant: Variant) => ({
  speed:
    100 * (1 - medianOf(variant, (s) => s.eventsPerSecond) / medianOf(without, (s) => s.eventsPerSecond)),
  cpu: 100 * (medianOf(variant, (s) => s.cpuMicros) / medianOf(without, (s) => s.cpuMicros) - 1),
});
console.log(
  table(
    [
      '',
      `median of ${rounds}`,
      'events/s',
      'min',
      'max',
      'slower %',
      'cpu µs/event',
      'more cpu %',
      'inspected KiB',
    ],
    VARIANTS.map((variant) => {
      const speeds = (samples.get(variant) ?? []).map(({ eventsPerSecond }) => eventsPerSecond);
      return [
        variant.key,
        variant.title,
        Math.round(median(speeds)),
        Math.round(Math.min(...speeds)),
        Math.round(Math.max(...speeds)),
        Number(cost(variant).speed.toFixed(1)),
        Number(medianOf(variant, (s) => s.cpuMicros).toFixed(2)),
        Number(cost(variant).cpu.toFixed(1)),
        Math.round(medianOf(variant, (s) => s.inspectedBytes) / 1024),
      ];
    }),
  ),
);
// Processor time hardly depends on what else runs on the machine; the speed does.
const { speed, cpu } = cost(silent);
const limit = Number(values['limit-percent']);
const good = Math.min(speed, cpu) < limit;
if (!good)
  console.error(`a debug socket that nobody reads costs ${speed.toFixed(1)} % speed, limit ${limit} %`);
process.exitCode = good ? 0 : 1;
