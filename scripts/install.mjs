// Lays the built product out below a prefix, as a distribution package would:
//
//   node scripts/install.mjs [--destdir DIR] [--prefix /usr] [--sysconfdir /etc] [--node PATH]
//
// --destdir DIR     stage below DIR; paths inside the files stay those of the final place
// --prefix DIR      programs, libraries, man pages, units (default /usr)
// --sysconfdir DIR  the hive goes to DIR/eventd/eventd.reg, unless one is there (default /etc)
// --node PATH       the Node.js that the programs run with (default: the one that runs this script)
//
// Needs `npm run build` before. Running it again replaces what it laid out, and keeps the hive.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, extname, isAbsolute, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Needed to build or fetch a native addon, never to load it. */
const BUILD_ONLY = new Set(['prebuild-install']);

const PROGRAMS = { eventd: 'sbin', kmesd: 'sbin', evctl: 'bin', devhost: 'bin' };

function fail(message, code = 1) {
  process.stderr.write(`install: ${message}\n`);
  process.exit(code);
}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        destdir: { type: 'string', default: '/' },
        prefix: { type: 'string', default: '/usr' },
        sysconfdir: { type: 'string', default: '/etc' },
        node: { type: 'string', default: process.execPath },
      },
    });
    for (const name of ['prefix', 'sysconfdir', 'node'])
      if (!isAbsolute(values[name])) fail(`--${name} takes an absolute path, not '${values[name]}'`, 2);
    return { ...values, destdir: resolve(values.destdir) };
  } catch (error) {
    return fail(error.message, 2);
  }
}

const options = readOptions();
/** A final path, staged. */
const staged = (path) => join(options.destdir, path);
const below = (...parts) => join(options.prefix, ...parts);

function write(path, content, mode = 0o644) {
  mkdirSync(dirname(staged(path)), { recursive: true });
  writeFileSync(staged(path), content);
  chmodSync(staged(path), mode);
}

const source = (...parts) => readFileSync(join(root, ...parts));

/** The folders of the packages that the product loads, relative to the project. */
function productionPackages() {
  const found = new Set();
  const visit = (folder) => {
    const { dependencies = {} } = JSON.parse(source(folder, 'package.json'));
    for (const name of Object.keys(dependencies)) {
      if (BUILD_ONLY.has(name)) continue;
      const home = locate(folder, name);
      if (home === null)
        fail(`${name}, which ${folder || 'the project'} needs, is not installed; run npm ci`);
      if (found.has(home)) continue;
      found.add(home);
      visit(home);
    }
  };
  visit('');
  return [...found].sort();
}

/** As Node looks for it: beside the package that needs it, then further up. */
function locate(folder, name) {
  for (let at = folder; ; at = at.slice(0, Math.max(at.lastIndexOf('node_modules') - 1, 0))) {
    const candidate = join(at, 'node_modules', name);
    if (existsSync(join(root, candidate, 'package.json'))) return candidate;
    if (at === '') return null;
  }
}

/** Nothing of a package but what runs: no sources of native code, no maps, no TypeScript. */
function isLoaded(folder, path) {
  const inside = relative(join(root, folder), path);
  if (inside.startsWith('node_modules')) return false;
  if (/^(deps|src|build)(\/|$)/.test(inside) && existsSync(join(root, folder, 'binding.gyp')))
    return /^build(\/Release(\/better_sqlite3\.node)?)?$/.test(inside);
  return !['.map', '.ts', '.mts', '.cts', '.md'].includes(extname(path)) || path.endsWith('.d.ts');
}

function installLibrary(home) {
  rmSync(staged(home), { recursive: true, force: true });
  mkdirSync(staged(home), { recursive: true });
  for (const folder of ['actors', 'bin', 'machines', 'src'])
    cpSync(join(root, 'dist', folder), staged(join(home, 'dist', folder)), {
      recursive: true,
      filter: (path) => extname(path) !== '.map',
    });
  const addon = join('native', 'build', 'Release', 'eventd.node');
  write(join(home, addon), source(addon), 0o755);
  for (const folder of productionPackages())
    cpSync(join(root, folder), staged(join(home, folder)), {
      recursive: true,
      dereference: true,
      filter: (path) => isLoaded(folder, path),
    });
  const {
    name,
    version,
    description,
    type,
    license,
    exports: entry,
    types,
  } = JSON.parse(source('package.json'));
  const manifest = { name, version, description, type, private: true, license, exports: entry, types };
  write(join(home, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
}

/** All of docs/: its pages name one another, decisions and requirements. */
function installPages(home) {
  for (const page of readdirSync(join(root, 'docs'), { recursive: true }))
    if (extname(page) === '.md')
      write(join(home, page), withoutDeadLinks(page, source('docs', page).toString()));
}

/** What lies outside of docs/ is not installed: of a link to it the text stays. */
function withoutDeadLinks(page, markdown) {
  return markdown.replace(/\[([^\]]+)\]\(([^)]+)\)/g, (link, text, target) =>
    join(dirname(page), target).startsWith('..') ? text : link,
  );
}

/** Finds its library beside itself, so that a staged tree runs where it stands. */
function wrapper(program, home, folder) {
  const library = relative(below(folder), home);
  return [
    '#!/bin/sh',
    'self=$(readlink -f -- "$0") || exit 1',
    `exec '${options.node.replaceAll("'", "'\\''")}' "\${self%/*}/${library}/dist/bin/${program}.js" "$@"`,
    '',
  ].join('\n');
}

/** The files of packaging/ name the usual places. */
function placed(text) {
  return text
    .replaceAll('/usr/sbin/', `${below('sbin')}/`)
    .replaceAll('/usr/share/', `${below('share')}/`)
    .replaceAll('/etc/eventd', join(options.sysconfdir, 'eventd'));
}

function completion(shell) {
  const script = join(root, 'dist', 'bin', 'evctl.js');
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, 'completion', shell]);
  if (status !== 0) fail(`evctl completion ${shell}: ${stderr}`);
  return stdout;
}

function main() {
  for (const built of ['dist/bin/eventd.js', 'native/build/Release/eventd.node'])
    if (!existsSync(join(root, built))) fail(`${built} is missing; run npm run build`);
  if (/^\/(home|root)\//.test(options.node))
    process.stderr.write(
      `install: the units cannot see ${options.node} (ProtectHome); name another --node\n`,
    );
  const home = below('lib', 'eventd');
  installLibrary(home);
  for (const [program, folder] of Object.entries(PROGRAMS))
    write(below(folder, program), wrapper(program, home, folder), 0o755);
  for (const page of ['evctl.1', 'devhost.1', 'eventd.8', 'kmesd.8'])
    write(below('share', 'man', `man${extname(page).slice(1)}`, page), source('packaging', 'man', page));
  installPages(below('share', 'doc', 'eventd'));
  write(below('share', 'bash-completion', 'completions', 'evctl'), completion('bash'));
  write(below('share', 'zsh', 'site-functions', '_evctl'), completion('zsh'));
  for (const [file, place] of [
    ['eventd.service', below('lib', 'systemd', 'system', 'eventd.service')],
    ['kmesd.service', below('lib', 'systemd', 'system', 'kmesd.service')],
    ['eventd.sysusers', below('lib', 'sysusers.d', 'eventd.conf')],
    ['eventd.tmpfiles', below('lib', 'tmpfiles.d', 'eventd.conf')],
  ])
    write(place, placed(source('packaging', file).toString()));
  const seed = placed(source('packaging', 'eventd.reg').toString());
  write(below('share', 'eventd', 'eventd.reg'), seed);
  installSeed(join(options.sysconfdir, 'eventd', 'eventd.reg'), seed);
}

/** The administrator's own file is never replaced. */
function installSeed(hive, seed) {
  if (existsSync(staged(hive))) {
    process.stdout.write(
      `install: ${hive} is kept; the new seed is ${below('share', 'eventd', 'eventd.reg')}\n`,
    );
    return;
  }
  write(hive, seed, 0o600);
  chmodSync(dirname(staged(hive)), 0o700);
}

main();
