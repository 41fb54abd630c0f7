/** Builds the C peers, against the SQLite that better-sqlite3 ships and with its compile-time options. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PROJECT } from './workload.js';

const run = promisify(execFile);
const SQLITE = join(PROJECT, 'node_modules/better-sqlite3');
const SOURCES = join(PROJECT, 'bench/native');
const OUT = join(PROJECT, 'native/out/bench');
const HEADERS = join(SQLITE, 'deps/sqlite3');

/** Path of a program of bench/native that writes with SQLite; compiled when there is none of the present sources. */
export async function buildInsertLoop(name = 'insert_loop'): Promise<string> {
  mkdirSync(OUT, { recursive: true });
  const library = await sqliteLibrary();
  const source = join(SOURCES, `${name}.c`);
  const program = join(OUT, `${name}-${digest(source, join(SOURCES, 'sqlite_loop.h'))}`);
  await once(program, [
    '-std=gnu11',
    '-O3',
    '-D_GNU_SOURCE',
    `-I${HEADERS}`,
    source,
    library,
    '-lpthread',
    '-lm',
    '-ldl',
  ]);
  return program;
}

/** Path of a program of bench/native that needs nothing but the C library. */
export async function buildProgram(name: string): Promise<string> {
  mkdirSync(OUT, { recursive: true });
  const source = join(SOURCES, `${name}.c`);
  const program = join(OUT, `${name}-${digest(source)}`);
  await once(program, ['-std=gnu11', '-O2', '-D_GNU_SOURCE', source]);
  return program;
}

/** The archive better-sqlite3 was linked from where it was built here, else the same code compiled the same way. */
async function sqliteLibrary(): Promise<string> {
  const built = join(SQLITE, 'build/Release/obj.target/deps/sqlite3.a');
  if (existsSync(built)) return built;
  const definitions = join(SQLITE, 'deps/defines.gypi');
  const defines = [...readFileSync(definitions, 'utf8').matchAll(/^\s+'([A-Z0-9_]+(?:=[^']*)?)',$/gm)];
  const object = join(OUT, `sqlite3-${digest(definitions)}.o`);
  await once(object, [
    '-std=c99',
    '-O3',
    '-w',
    '-DNDEBUG',
    ...defines.map(([, define]) => `-D${define}`),
    '-c',
    join(HEADERS, 'sqlite3.c'),
  ]);
  return object;
}

/** Compiles to a temporary name first: a half-written file must not look finished. */
async function once(target: string, args: readonly string[]): Promise<void> {
  if (existsSync(target)) return;
  const temporary = `${target}.${process.pid}`;
  await run('cc', [...args, '-o', temporary]);
  renameSync(temporary, target);
}

function digest(...files: readonly string[]): string {
  const hash = createHash('sha256');
  for (const file of files) hash.update(readFileSync(file));
  return hash.digest('hex').slice(0, 12);
}
