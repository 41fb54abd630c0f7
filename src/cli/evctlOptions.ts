/** The options and help texts of evctl. */
import { type OptionRow, optionHelp } from './options.js';

export const COMMANDS = ['emit', 'inspect', 'registry'] as const;
export type CommandName = (typeof COMMANDS)[number];

/** '' stands for the plain form, the query. */
const QUERY = '';

export const EVCTL_OPTIONS: readonly OptionRow[] = [
  {
    name: 'socket',
    short: 's',
    value: 'PATH',
    help: 'query socket',
    env: 'EVENTD_SOCKET',
    default: '/run/eventd/query.sock',
    commands: [QUERY],
  },
  { name: 'file', value: 'PATH', help: 'read the query from a file', commands: [QUERY] },
  {
    name: 'format',
    short: 'o',
    value: 'FORMAT',
    choices: ['pretty', 'jsonl', 'msgpack'],
    default: 'pretty',
    help: 'how records are written',
    commands: [QUERY],
  },
  { name: 'local', help: 'local time instead of UTC (pretty)', commands: [QUERY, 'inspect'] },
  {
    name: 'kmes',
    value: 'DIR',
    help: 'directory of the embedded rings',
    env: 'EVENTD_KMES_DIR',
    default: '/run/kmes',
    commands: ['emit'],
  },
  {
    name: 'debug-socket',
    value: 'PATH',
    help: 'debug socket',
    env: 'EVENTD_DEBUG_SOCKET',
    default: '/run/eventd/debug.sock',
    commands: ['inspect'],
  },
  { name: 'follow', short: 'f', help: 'go on with every transition', commands: ['inspect'] },
  {
    name: 'registry',
    value: 'FILE',
    help: 'hive file of the embedded registry',
    env: 'EVENTD_REGISTRY',
    default: '/etc/eventd/eventd.reg',
    commands: ['registry'],
  },
  { name: 'no-color', help: 'no colours ($NO_COLOR does the same)', commands: [QUERY, 'inspect'] },
  { name: 'help', short: 'h', help: 'show this text' },
  { name: 'version', short: 'V', help: 'show the version' },
];

const INTRODUCTIONS: Readonly<Record<CommandName | typeof QUERY, string>> = {
  [QUERY]: `Usage: evctl [OPTIONS] 'QUERY'
       evctl [OPTIONS] --file PATH
       evctl [OPTIONS] -              (query from standard input)
       evctl emit|inspect|registry ... (each has its own --help)

Asks eventd and prints the records. 'EVENTS TAKE 20' shows the newest twenty events.
`,
  emit: `Usage: evctl emit [OPTIONS] TYPE JSON
       evctl emit [OPTIONS] TYPE -    (one JSON value per line from standard input)

Emits events of one type through the embedded KMES for ordinary Linux (kmesd). The payload is the JSON
value as msgpack; integers keep all 64 bits. Put -- before a JSON value that begins with a minus.
`,
  inspect: `Usage: evctl inspect [OPTIONS]

Prints the tree of eventd's actors with their states, and with --follow every transition after it.
`,
  registry: `Usage: evctl registry [OPTIONS] COMMAND

Reads and edits the hive file of the embedded registry; a running eventd sees changes at once.
`,
};

/**
 * The help text of a command, or of the plain form (null).
 * @param forms how the subcommands of `command` are called, one a line
 */
export function evctlHelp(command: CommandName | null, forms: readonly string[] = []): string {
  const commands = forms.length === 0 ? '' : `\nCommands:\n${forms.map((form) => `  ${form}\n`).join('')}`;
  return `${INTRODUCTIONS[command ?? QUERY]}${commands}\nOptions:\n${optionHelp(EVCTL_OPTIONS, command)}`;
}
