/**
 * What eventd costs when nothing happens: processor time over ten seconds, and resident memory, with
 * kmesd beside it and no load. Exits 1 above the limits.
 *
 *   npm run bench:idle -- [--seconds N] [--limit-percent N] [--limit-mib N]
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { DevHost } from '../src/devhost/host.js';
import { benchOptions } from './options.js';
import { table } from './table.js';

const values = benchOptions({
  seconds: { type: 'string', default: '10' },
  'limit-percent': { type: 'string', default: '1' },
  'limit-mib': { type: 'string', default: '250' },
});
const seconds = Number(values.seconds);

/** The kernel counts processor time in hundredths of a second for user space, on every architecture. */
const TICKS_PER_SECOND = 100;
/**
 * After READY=1 query threads still start, and about ten seconds later V8 gives back once what starting
 * took: some 25 ms of garbage collection in each of six threads. Idle is what comes then.
 */
const SETTLE_MS = 20_000;

function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function residentMiB(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
  return Number(line?.[1]) / 1024;
}

const dir = mkdtempSync(join(tmpdir(), 'eventd-idle-'));
const host = new DevHost({ dir, cpus: 2, kmsg: false, process: false });
try {
  await host.start();
  const pid = host.pid('eventd') ?? -1;
  await pause(SETTLE_MS);
  const before = cpuSeconds(pid);
  await pause(seconds * 1000);
  const percent = ((cpuSeconds(pid) - before) / seconds) * 100;
  const rss = residentMiB(pid);
  const threads = readdirSync(`/proc/${pid}/task`).length;
  const limits = { percent: Number(values['limit-percent']), rss: Number(values['limit-mib']) };
  console.log(
    table(
      ['idle eventd', 'measured', 'limit'],
      [
        ['processor, % of a core', percent.toFixed(2), limits.percent.toFixed(2)],
        ['resident memory, MiB', rss.toFixed(0), limits.rss.toFixed(0)],
        ['threads', String(threads), ''],
      ],
    ),
  );
  process.exitCode = percent < limits.percent && rss < limits.rss ? 0 : 1;
} finally {
  await host.stop();
  rmSync(dir, { recursive: true, force: true });
}
