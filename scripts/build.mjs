// Builds everything that needs a compiler, side by side: better-sqlite3 (one large C file, unless there is
// a prebuilt binary), the addon, and the TypeScript. What is up to date is left alone. .npmrc keeps npm ci
// from running install scripts, so that the long one shares its time with the others.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { constants, setPriority } from 'node:os';

process.chdir(new URL('..', import.meta.url).pathname);

/** Compiling it keeps one processor busy for longer than all else together. */
const LONGEST = 'better-sqlite3';

/** Leaves the processors to the longest command. */
function yieldTo(pid) {
  try {
    setPriority(pid, constants.priority.PRIORITY_LOW);
  } catch {
    // It has ended, or may not.
  }
}

/** True when the installed better-sqlite3 loads in this Node. */
function hasSqlite() {
  try {
    const Database = createRequire(import.meta.url)(LONGEST);
    new Database(':memory:').close();
    return true;
  } catch {
    return false;
  }
}

/** Runs a command; its output is shown as a whole when it has ended, unless it is a success without any. */
function run(command, ...args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    if (child.pid !== undefined && !args.includes(LONGEST)) yieldTo(child.pid);
    const chunks = [];
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => chunks.push(chunk));
    child.on('error', (error) => chunks.push(Buffer.from(`${command}: ${error.message}\n`)));
    child.on('close', (code) => {
      if (code !== 0) {
        process.stderr.write(Buffer.concat(chunks));
        process.stderr.write(`build: ${[command, ...args].join(' ')} failed\n`);
      }
      resolve(code === 0);
    });
  });
}

const sqlite = hasSqlite()
  ? Promise.resolve(true)
  : run('npm', 'rebuild', '--ignore-scripts=false', '--foreground-scripts', LONGEST);
const results = await Promise.all([
  sqlite,
  run('npm', 'run', '--silent', 'build:native'),
  run('npm', 'run', '--silent', 'build:ts'),
]);
process.exitCode = results.every(Boolean) ? 0 : 1;
