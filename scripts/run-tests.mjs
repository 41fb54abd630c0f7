// Runs the compiled tests with node:test, or those whose path holds one of the arguments.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from 'node:test';
import { SLOWEST_TESTS } from './slowest-tests.mjs';
import { FileReport, summary } from './test-reporter.mjs';

/** Integration tests start processes of their own. */
const FILES_AT_A_TIME = 2;

const root = new URL('..', import.meta.url).pathname;
process.chdir(root);
const wanted = process.argv.slice(2);
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
async function runWaiting() {
  for (let report = waiting.shift(); report !== undefined; report = waiting.shift()) {
    for await (const { type, data } of run({ files: [report.file], concurrency: 1 }))
      process.stdout.write(report.take(type, data));
    process.stdout.write(report.close());
  }
}

await Promise.all(Array.from({ length: FILES_AT_A_TIME }, runWaiting));
process.stdout.write(summary(reports, startedAt));
if (reports.every(({ failures }) => failures.length === 0)) process.exitCode = 0;
