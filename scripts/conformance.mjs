// Which numbered requirements the tests name: reads the ids in docs/spec and the ids in test titles.
// Fails when a test names an id that does not exist; ids without a test are listed, not fatal.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = new URL('..', import.meta.url).pathname;
const ID = /\b(?:KMES|ING|STO|IDX|RET|BOOT|LOG|MET|ROL|QL|QX|STR|WIRE|ACL|LIFE|FAIL|CFG|ADV|HOST)-\d+\b/g;
/** A test title: a string that begins with ids in square brackets, whatever function it is given to. */
const TITLE = /(['"`])(\[[A-Z]+-\d+(?:\\.|(?!\1)[^\n])*)\1/g;

function filesBelow(folder, ending) {
  return readdirSync(join(root, folder), { recursive: true })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name));
}

/** `[ING-1, ING-2] ...`: ids inside square brackets. */
function idsIn(title) {
  return [...title.matchAll(/\[([^\]]*)\]/g)].flatMap(([, list]) => list.match(ID) ?? []);
}

const known = new Map();
for (const file of filesBelow('docs/spec', '.md')) {
  for (const id of readFileSync(join(root, file), 'utf8').match(ID) ?? [])
    if (!known.has(id)) known.set(id, file);
}

const tests = new Map();
const note = (file, title) => {
  for (const id of idsIn(title)) tests.set(id, (tests.get(id) ?? new Set()).add(file));
};
for (const file of filesBelow('test', '.test.ts')) {
  for (const [, , title] of readFileSync(join(root, file), 'utf8').matchAll(TITLE)) note(file, title);
}
for (const file of filesBelow('native/test', '.c')) {
  for (const [, , title] of readFileSync(join(root, file), 'utf8').matchAll(TITLE)) note(file, title);
}

const byPrefix = new Map();
for (const id of known.keys()) {
  const prefix = id.slice(0, id.indexOf('-'));
  const row = byPrefix.get(prefix) ?? { covered: [], uncovered: [] };
  (tests.has(id) ? row.covered : row.uncovered).push(id);
  byPrefix.set(prefix, row);
}
const number = (id) => Number(id.slice(id.indexOf('-') + 1));
const order = (a, b) => number(a) - number(b);

if (process.argv.includes('--matrix')) {
  for (const id of [...tests.keys()].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))) {
    console.log(`${id.padEnd(9)} ${[...tests.get(id)].sort().join(' ')}`);
  }
}
console.log('prefix  covered  uncovered');
for (const [prefix, { covered, uncovered }] of [...byPrefix].sort()) {
  console.log(
    `${prefix.padEnd(8)}${String(covered.length).padStart(6)}${String(uncovered.length).padStart(11)}`,
  );
}
if (!process.argv.includes('--brief')) {
  for (const [prefix, { uncovered }] of [...byPrefix].sort()) {
    if (uncovered.length > 0)
      console.log(`without a test: ${prefix}-${uncovered.sort(order).map(number).join(', ')}`);
  }
}
const unknown = [...tests.keys()].filter((id) => !known.has(id));
for (const id of unknown)
  console.error(`no such requirement: ${id} (named in ${[...tests.get(id)].join(', ')})`);
const covered = [...known.keys()].filter((id) => tests.has(id)).length;
console.log(`${covered} of ${known.size} requirements are named by a test; ${unknown.length} unknown ids`);
process.exit(unknown.length > 0 ? 1 : 0);
