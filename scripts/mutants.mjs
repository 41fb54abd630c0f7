// Removes behaviours of the event path one by one, in a copy of the built project, and sees the named tests
// fail (`npm run test:mutants [PART OF AN ID]`). Exit 1 when a mutant survives. Wants `npm run build` and a
// passed `npm test`: what fails anyway proves nothing.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MUTANTS } from './mutant-list.mjs';

const TIMEOUT_MS = 180_000;
const root = new URL('..', import.meta.url).pathname;
const copy = mkdtempSync(join(tmpdir(), 'eventd-mutants-'));

/** Compiled code and C sources are copied, everything else is looked up where it is. */
function copyProject() {
  const options = { recursive: true, preserveTimestamps: true };
  for (const name of ['dist', 'scripts', 'native']) cpSync(join(root, name), join(copy, name), options);
  for (const name of ['node_modules', 'docs', 'packaging', 'package.json', 'README.md'])
    symlinkSync(join(root, name), join(copy, name));
}

function run(command, ...args) {
  return spawnSync(command, args, { cwd: copy, timeout: TIMEOUT_MS, encoding: 'utf8' });
}

/** The titles of the tests that failed; null when the mutant did not even compile. */
function failuresOf({ file, tests }) {
  if (!file.startsWith('native/')) {
    const { stdout } = run(process.execPath, 'scripts/run-tests.mjs', '--once', ...tests);
    return [...stdout.matchAll(/^FAILED in (.*)$/gm)].map(([, title]) => title);
  }
  const programs = tests.map((name) => `out/asan/${name}`);
  if (run('make', '-s', '-C', 'native', ...programs).status !== 0) return null;
  return programs.filter((program) => run(join('native', program)).status !== 0);
}

const wanted = process.argv[2] ?? '';
let survivors = 0;
try {
  copyProject();
  for (const mutant of MUTANTS.filter(({ ids }) => ids.includes(wanted))) {
    const path = join(copy, mutant.file);
    const original = readFileSync(path, 'utf8');
    if (original.split(mutant.find).length !== 2) {
      survivors++;
      console.log(
        `STALE     ${mutant.ids.padEnd(9)} ${mutant.file} holds this not exactly once: ${mutant.find}`,
      );
      continue;
    }
    writeFileSync(
      path,
      original.replace(mutant.find, () => mutant.replace),
    );
    const failed = failuresOf(mutant);
    writeFileSync(path, original);
    const isKilled = failed !== null && failed.length > 0;
    if (!isKilled) survivors++;
    const by = failed === null ? 'does not compile' : (failed[0] ?? '').slice(0, 90);
    console.log(`${isKilled ? 'killed  ' : 'SURVIVED'}  ${mutant.ids.padEnd(9)} without: ${mutant.removed}`);
    console.log(`          ${failed?.length ?? 0} failed  ${by}`);
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
console.log(survivors === 0 ? 'every mutant was killed' : `${survivors} survived`);
process.exitCode = survivors === 0 ? 0 : 1;
