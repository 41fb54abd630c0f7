// Runs the compiled tests with node:test, or those whose path holds one of the arguments. A few files that
// fail beside others are run once more, alone (docs/decisions/0034); with --once they are not.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from 'node:test';
import { SLOWEST_TESTS } from './slowest-tests.mjs';
import { FileReport, summary } from './test-reporter.mjs';

/** Integration tests start processes of their own. */
const FILES_AT_A_TIME = 2;
/** Where more files fail, it is not the machine that was busy. */
const MOST_AGAIN = 3;

const root = new URL('..', import.meta.url).pathname;
process.chdir(root);
const wanted = process.argv.slice(2).filter((argument) => argument !== '--once');
const mayRunAgain = !process.argv.includes('--once');
const names = readdirSync(join(root, 'dist/test'), { recursive: true }).filter((name) =>
  name.endsWith('.test.js'),
);
const slowest = SLOWEST_TESTS.map((name) => `${name}.test.js`);
const gone = slowest.filter((name) => !names.includes(name));
if (gone.length > 0) {
  console.error(`scripts/slowest-tests.mjs names files that are not there: ${gone.join(', ')}`);
  process.exit(2);
}
const others = names.filter((name) => !slowest.includes(name)).sort();
const files = [...slowest, ...others]
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
  .map((name) => join(root, 'dist/test', name));
if (files.length === 0) {
  console.error('no test file matches; run npm run build first?');
  process.exit(2);
}

// Until everything has passed: whoever interrupts a run gets no 0.
process.exitCode = 1;
const startedAt = performance.now();
const reports = files.map((file) => new FileReport(file));
const waiting = [...reports];

/** One run for each file: several files in one would be reported in their order, not as they end. */
async function runFile(report) {
  for await (const { type, data } of run({ files: [report.file], concurrency: 1 }))
    process.stdout.write(report.take(type, data));
  process.stdout.write(report.close());
}

async function runWaiting() {
  for (let report = waiting.shift(); report !== undefined; report = waiting.shift()) await runFile(report);
}

await Promise.all(Array.from({ length: FILES_AT_A_TIME }, runWaiting));

const broken = reports.filter((report) => report.failures.length > 0);
if (mayRunAgain && broken.length <= MOST_AGAIN && broken.every((report) => report.mayRunAgain())) {
  for (const report of broken) {
    process.stdout.write(`\n${report.name} failed beside others; once more, alone:\n`);
    report.again = new FileReport(report.file);
    await runFile(report.again);
  }
}
process.stdout.write(summary(reports, startedAt));
if (reports.every((report) => report.hasPassed())) process.exitCode = 0;
