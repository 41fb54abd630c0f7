/** The candidates for one word of a command line: options and their values, commands, queries, stored names. */
import { SETTING_NAMES } from '../registry/settings.js';
import { query } from '../wire/client.js';
import { querySocket } from '../wire/defaults.js';
import { expectedAfter, type NameKind, splitLast } from './completionQuery.js';
import { COMMANDS, EVCTL_OPTIONS } from './evctlOptions.js';
import type { Environment, OptionRow } from './options.js';

/** Tells the shell that file names fit. */
const FILES = ':files';
/** Names offered at most; a longer list helps nobody. */
const MAX_NAMES = 500;
/** Names that can be typed in a quoted query as they are. */
const PLAIN_NAME = /^[\p{L}\p{N}_.:@/+-]+$/u;

const TIMES = ["'1h ago'", "'1d ago'", 'today', 'yesterday'];

/** Newest names first come from what was stored lately: the answer has to be quick. */
const NAME_QUERIES: Readonly<
  Record<NameKind, { readonly text: string; readonly plain: string; readonly field: string }>
> = {
  types: {
    text: `EVENTS SINCE 1d ago DISTINCT event_type TAKE ${MAX_NAMES}`,
    plain: 'EVENTS SELECT event_type TAKE 1000',
    field: 'event_type',
  },
  origins: {
    text: `LOGS SINCE 7d ago DISTINCT origin TAKE ${MAX_NAMES}`,
    plain: 'LOGS SELECT origin TAKE 1000',
    field: 'origin',
  },
  metrics: { text: 'METRIC *[] TAKE 2000', plain: 'METRIC *[] TAKE 2000', field: 'name' },
};

/**
 * @param words the line's words, evctl itself first, without quotes
 * @param index which of them is being completed
 * @param signal ends the search for stored names; what is known without them is the answer then
 * @returns whole words, or {@link FILES}
 */
export async function candidates(
  words: readonly string[],
  index: number,
  env: Environment,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const before = words.slice(1, index);
  const current = words[index] === '=' ? '' : (words[index] ?? '');
  const line = readLine(before);
  const fit = (found: readonly string[]) =>
    found.filter((word) => word.toLowerCase().startsWith(current.toLowerCase()));
  if (line.pending !== null || words[index] === '=') return valuesOf(line.pending, current);
  const rows = EVCTL_OPTIONS.filter(
    ({ commands }) => commands === undefined || commands.includes(line.command ?? ''),
  );
  if (current.startsWith('-')) {
    const [flag = '', value] = current.split('=', 2);
    const row = rows.find(({ name }) => `--${name}` === flag);
    if (value !== undefined)
      return valuesOf(row ?? null, value).map((word) => (word === FILES ? word : `${flag}=${word}`));
    return fit(
      rows.flatMap(({ name, short }) => [`--${name}`, ...(short === undefined ? [] : [`-${short}`])]),
    );
  }
  const socket = querySocket(line.socket ?? env.EVENTD_SOCKET);
  const named = (kind: NameKind) => storedNames(kind, socket, signal);
  if (line.command === null) {
    if (line.positionals > 0) return [];
    const { head, last } = splitLast(current);
    const expected = expectedAfter(head);
    const names = expected.names === undefined ? [] : await named(expected.names);
    const wanted = [...names, ...expected.words].filter((word) =>
      word.toLowerCase().startsWith(last.toLowerCase()),
    );
    return [...(head === '' ? fit(COMMANDS) : []), ...wanted.map((word) => head + word)];
  }
  if (line.command === 'config') return fit(SETTING_NAMES);
  if (line.positionals > 0) return line.command === 'run' ? [FILES] : [];
  switch (line.command) {
    case 'completion':
      return fit(['bash', 'zsh']);
    case 'registry':
      return fit(['del', 'get', 'ls', 'set', 'set-sd']);
    case 'emit':
      return fit(await named('types'));
    case 'log':
    case 'run':
      return fit(await named('origins'));
    case 'metric':
      return fit(await named('metrics'));
    default:
      return [];
  }
}

interface Line {
  readonly command: string | null;
  readonly positionals: number;
  /** The option whose value the next word is. */
  readonly pending: OptionRow | null;
  readonly socket: string | undefined;
}

/** What the words before the one to be completed say. */
function readLine(words: readonly string[]): Line {
  let command: string | null = null;
  let positionals = 0;
  let pending: OptionRow | null = null;
  let socket: string | undefined;
  for (const word of words) {
    // bash makes a word of its own of the sign between an option and its value.
    if (word === '=' && pending !== null) continue;
    if (pending !== null) {
      if (pending.name === 'socket') socket = word;
      pending = null;
    } else if (word.startsWith('-') && word !== '-') {
      const named = EVCTL_OPTIONS.filter(({ name, short }) => word === `--${name}` || word === `-${short}`);
      // One name may stand for options of several commands, with other values.
      const row = named.find(({ commands }) => commands?.includes(command ?? '')) ?? named[0];
      pending = row?.value === undefined ? null : row;
      if (word.startsWith('--socket=')) socket = word.slice('--socket='.length);
    } else if (command === null && positionals === 0 && (COMMANDS as readonly string[]).includes(word))
      command = word;
    else positionals++;
  }
  return { command, positionals, pending, socket };
}

function valuesOf(row: OptionRow | null, current: string): readonly string[] {
  if (row === null) return [];
  if (row.choices !== undefined) return row.choices.filter((choice) => choice.startsWith(current));
  if (row.value === 'TIME') return TIMES.filter((time) => time.startsWith(current));
  return row.value === 'PATH' || row.value === 'FILE' || row.value === 'DIR' ? [FILES] : [];
}

/** Names that are stored; none when eventd does not answer in time. */
async function storedNames(kind: NameKind, socket: string, signal: AbortSignal): Promise<readonly string[]> {
  const { text, plain, field } = NAME_QUERIES[kind];
  const names = new Set<string>();
  const collect = async (asked: string) => {
    for await (const record of query(socket, asked, { signal })) {
      const name = record.get(field);
      if (typeof name === 'string' && PLAIN_NAME.test(name)) names.add(name);
      if (names.size >= MAX_NAMES) return;
    }
  };
  // An eventd that does not aggregate still knows its newest records.
  await collect(text).catch(() => collect(plain).catch(() => undefined));
  return [...names].sort();
}
