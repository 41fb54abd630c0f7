// Writes docs/configuration.md from the settings table (compiled, dist/src/registry/settings.js).
//
//   node scripts/list-settings.mjs               writes docs/configuration.md
//   node scripts/list-settings.mjs --check       fails when docs/configuration.md is out of date
//   --out FILE                                   another file than docs/configuration.md
import { SETTING_NAMES, SETTINGS } from '../dist/src/registry/settings.js';
import { writeOrCheck } from './generated-file.mjs';

const TYPES = { path: 'REG_SZ', dword: 'REG_DWORD', qword: 'REG_QWORD', names: 'REG_MULTI_SZ' };

function defaultOf(setting) {
  if (setting.required) return 'none, required';
  if (setting.default === null) return 'absent';
  if (Array.isArray(setting.default))
    return setting.default.length === 0 ? 'none' : setting.default.join(', ');
  return String(setting.default);
}

function rangeOf(setting) {
  if (setting.type === 'path') return `absolute path, at most ${setting.maxBytes} bytes`;
  if (setting.type === 'names') return `at most ${setting.max} names`;
  if (setting.type === 'qword') return `${setting.min} to 2^64-1`;
  return `${setting.min} to ${setting.max}`;
}

function table() {
  const rows = SETTING_NAMES.map((name) => {
    const setting = SETTINGS[name];
    const cells = [
      `\`${name}\``,
      TYPES[setting.type],
      defaultOf(setting),
      `${rangeOf(setting)}${setting.unit === '' || setting.type === 'path' ? '' : ` ${setting.unit}`}`,
      setting.meaning,
      setting.live ? 'at once' : 'restart',
      setting.id ?? '–',
    ];
    return `| ${cells.join(' | ')} |`;
  });
  return [
    '| value | type | default | range | meaning | takes effect | defined by |',
    '|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

const page = [
  '# Configuration values',
  'Generated from `src/registry/settings.ts` by `node scripts/list-settings.mjs`; do not edit. How to set them: [operations.md](operations.md#configuration).',
  'All values live below the registry key `Machine\\System\\eventd`. A value of the wrong type or out of range is never clamped: at the start a required one stops eventd and an optional one gives way to its default with a warning; later the value in force stays.',
  table(),
].join('\n\n');

process.exitCode = writeOrCheck(
  new URL('../docs/configuration.md', import.meta.url),
  `${page}\n`,
  'list-settings',
);
