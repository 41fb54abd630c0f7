/** The man pages say what the programs do: every option and variable of --help, and no other option. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { COMMANDS } from '../../src/cli/evctlOptions.js';
import { programPath } from '../fixtures/runProgram.js';

const MAN = fileURLToPath(new URL('../../../packaging/man', import.meta.url));

function help(program: string, ...args: string[]): string {
  const { status, stdout } = spawnSync(process.execPath, [programPath(program), ...args, '--help'], {
    encoding: 'utf8',
  });
  assert.equal(status, 0);
  return stdout;
}

/** Options in the option part of a help text: lines that begin with blanks and a dash. */
function optionsOf(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => /^\s+-/.test(line))
    .flatMap((line) => [...line.matchAll(/(?<![\w-])--?[a-zA-Z][\w-]*/g)].slice(0, 2).map(([flag]) => flag))
    .filter((flag) => text.includes(flag));
}

/** Options a page explains, in list items only. */
function explained(page: string): Set<string> {
  const items = page.split('\n').filter((line) => line.startsWith('.It Fl '));
  return new Set(items.flatMap((item) => [...item.matchAll(/Fl (-?[\w-]+)/g)].map(([, flag]) => `-${flag}`)));
}

for (const [program, section, commands] of [
  ['evctl', 1, COMMANDS],
  ['devhost', 1, []],
  ['eventd', 8, []],
  ['kmesd', 8, []],
] as const)
  test(`${program}(${section}) explains the options and variables of --help, and no others`, () => {
    const page = readFileSync(join(MAN, `${program}.${section}`), 'utf8');
    const texts = [help(program), ...commands.map((command) => help(program, command))];
    const options = new Set(texts.flatMap(optionsOf));
    const inPage = explained(page);
    for (const option of options) assert.ok(inPage.has(option), `${option} is not in the page`);
    // Help and version have a short form that not every help text tells.
    for (const option of inPage)
      assert.ok(options.has(option) || ['-h', '-V'].includes(option), `${option} is in the page only`);
    for (const [, variable] of texts.join().matchAll(/\$([A-Z_]{4,})/g))
      assert.match(page, new RegExp(`^\\.It Ev (?:\\w+ , )*${variable}\\b`, 'm'), variable);
    for (const command of commands) assert.match(page, new RegExp(`^\\.It Cm ${command}$`, 'm'));
    assert.match(page, /^\.Sh EXIT STATUS$/m);
  });

test('man pages have the parts every page has, and name no page that does not exist', () => {
  const pages = readdirSync(MAN);
  for (const name of pages) {
    const text = readFileSync(join(MAN, name), 'utf8');
    const [program, section] = name.split('.');
    assert.match(
      text,
      new RegExp(
        `^\\.Dd [^\\n]+\\n\\.Dt ${program?.toUpperCase()} ${section}\\n\\.Os\\n\\.Sh NAME\\n\\.Nm ${program}\\n\\.Nd `,
      ),
    );
    for (const [, page, of] of text.matchAll(/^\.Xr (\w+) (\d)/gm))
      if (page !== 'less') assert.ok(pages.includes(`${page}.${of}`), `${name} refers to ${page}(${of})`);
    const groff = spawnSync('groff', ['-mdoc', '-ww', '-Tutf8', '-z', join(MAN, name)], { encoding: 'utf8' });
    // groff is not on every machine; where it is it must have nothing to say.
    if (groff.error === undefined) assert.equal(groff.stderr, '');
  }
});
