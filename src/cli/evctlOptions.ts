/** The options and help texts of evctl. */
import { type OptionRow, optionHelp } from './options.js';

export const COMMANDS = [
  'completion',
  'config',
  'emit',
  'inspect',
  'log',
  'metric',
  'registry',
  'run',
] as const;
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
    choices: ['pretty', 'jsonl', 'csv', 'msgpack'],
    default: 'pretty',
    help: 'how records are written',
    commands: [QUERY],
  },
  {
    name: 'format',
    short: 'o',
    value: 'FORMAT',
    choices: ['pretty', 'jsonl'],
    default: 'pretty',
    help: 'how settings are written',
    commands: ['config'],
  },
  { name: 'follow', short: 'f', help: 'go on with records as they are stored (STREAM)', commands: [QUERY] },
  {
    name: 'since',
    short: 'S',
    value: 'TIME',
    help: "as SINCE: '1h ago', today, 2026-05-01",
    commands: [QUERY],
  },
  { name: 'until', short: 'U', value: 'TIME', help: 'as UNTIL', commands: [QUERY] },
  { name: 'limit', short: 'n', value: 'N', help: 'as TAKE: so many records', commands: [QUERY] },
  { name: 'chart', help: 'draw the samples of a METRIC query', commands: [QUERY] },
  { name: 'explain', help: 'show how the query would run, do not run it', commands: [QUERY] },
  {
    name: 'store-dir',
    value: 'DIR',
    help: 'stores for --explain: DIR/events, DIR/logs.db, DIR/metrics.db',
    commands: [QUERY],
  },
  {
    name: 'timeout',
    value: 'SECONDS',
    help: 'give up when eventd sends nothing for so long; of a stream the first message counts',
    commands: [QUERY],
  },
  {
    name: 'timeout',
    value: 'SECONDS',
    help: 'give up when eventd does not answer within this time',
    commands: ['inspect', 'config'],
  },
  { name: 'full', help: 'long values and texts whole (pretty)', commands: [QUERY] },
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
    name: 'log-socket',
    value: 'PATH',
    help: 'log socket',
    env: 'EVENTD_LOG_SOCKET',
    default: '/run/eventd/log.sock',
    commands: ['log', 'run'],
  },
  { name: 'error', help: 'the lines are errors (is_error is true)', commands: ['log'] },
  { name: 'tee', help: 'write the output through as well', commands: ['run'] },
  {
    name: 'metric-socket',
    value: 'PATH',
    help: 'metric socket',
    env: 'EVENTD_METRIC_SOCKET',
    default: '/run/eventd/metric.sock',
    commands: ['metric'],
  },
  {
    name: 'type',
    value: 'TYPE',
    choices: ['gauge', 'counter', 'histogram'],
    default: 'gauge',
    help: 'kind of metric',
    commands: ['metric'],
  },
  {
    name: 'debug-socket',
    value: 'PATH',
    help: 'debug socket',
    env: 'EVENTD_DEBUG_SOCKET',
    default: '/run/eventd/debug.sock',
    commands: ['inspect', 'config'],
  },
  {
    name: 'follow',
    short: 'f',
    help: 'go on with transitions, and with figures every 5 s',
    commands: ['inspect'],
  },
  { name: 'json', help: 'the lines of the debug socket as they are', commands: ['inspect'] },
  {
    name: 'registry',
    value: 'FILE',
    help: 'hive file of the embedded registry',
    env: 'EVENTD_REGISTRY',
    default: '/etc/eventd/eventd.reg',
    commands: ['registry', 'config', QUERY],
  },
  { name: 'no-pager', help: 'no pager on a terminal ($EVCTL_PAGER, $PAGER, less)', commands: [QUERY] },
  {
    name: 'color',
    value: 'WHEN',
    choices: ['auto', 'always', 'never'],
    default: 'auto',
    help: 'colours',
    commands: [QUERY, 'inspect', 'config'],
  },
  {
    name: 'no-color',
    help: 'the same as --color=never; $NO_COLOR is obeyed, too',
    commands: [QUERY, 'inspect', 'config'],
  },
  { name: 'help', short: 'h', help: 'show this text' },
  { name: 'version', short: 'V', help: 'show the version' },
];

const INTRODUCTIONS: Readonly<Record<CommandName | typeof QUERY, string>> = {
  [QUERY]: `Usage: evctl [OPTIONS] 'QUERY'
       evctl [OPTIONS] --file PATH
       evctl [OPTIONS] -              (query from standard input)
       evctl completion|config|emit|inspect|log|metric|registry|run ... (each has its own --help)

Asks eventd and prints the records. 'EVENTS TAKE 20' shows the newest twenty events.
Exit codes: 0 done, 1 failed, 2 wrong usage or a query that does not parse, 130 interrupted.
`,
  completion: `Usage: evctl completion bash|zsh

Prints a script that completes options, keywords, fields, and the names that are stored.

  . <(evctl completion bash)                                   in ~/.bashrc
  evctl completion zsh > ~/.zsh/completions/_evctl             a directory in $fpath
`,
  config: `Usage: evctl config [OPTIONS] [SETTING...]

Shows settings, all by default: the value in force, default and range, where the value comes from, and
whether a change applies live or at a restart. Sources: hive, default, and kept, where the hive's value is
invalid or waits for a restart; the reason stands below. The running eventd is asked on its debug socket.
With --registry, or where it cannot be asked, the registry shows what a start would take.
`,
  emit: `Usage: evctl emit [OPTIONS] TYPE JSON
       evctl emit [OPTIONS] TYPE -    (one JSON value per line from standard input)

Emits events of one type through the embedded KMES for ordinary Linux (kmesd). The payload is the JSON
value as msgpack; integers keep all 64 bits. Put -- before a JSON value that begins with a minus.
`,
  inspect: `Usage: evctl inspect [OPTIONS]
       evctl inspect [OPTIONS] indexes|rollups

Prints the tree of eventd's actors with their states and key figures, and with --follow the transitions
after it; one that repeats itself is shown every 10 s with the number of times.
With 'indexes': which fields of events are asked for, which have an index in how many shards, and why.
With 'rollups': which functions and windows METRIC queries ask for, which are kept as rollups, and why.
`,
  log: `Usage: evctl log [OPTIONS] ORIGIN LINE...
       evctl log [OPTIONS] ORIGIN     (lines from standard input)

Sends lines to the log store, as lines of the service ORIGIN, with the time they were read. A line has
8192 bytes at most; of a longer one the rest is cut off and '[truncated]' put in its place.

  evctl log backup 'nightly run begins'
  evctl log --error backup 'disk is full'
  tail -f app.log | evctl log app
`,
  metric: `Usage: evctl metric [OPTIONS] NAME VALUE [LABEL=VALUE...]

Sends one sample to the metric store. A counter only rises, a gauge moves freely; the value of a
histogram is a JSON object with the upper bounds and the cumulative counts.

  evctl metric room.temperature 21.5 room=kitchen floor=1
  evctl metric --type counter http.requests.total 1042 host=web1
  evctl metric --type histogram http.latency \\
    '{"boundaries": [0.1, 0.5, "+Inf"], "counts": [80, 97, 100], "total_count": 100, "sum": 12.5}'
`,
  run: `Usage: evctl run [OPTIONS] NAME -- COMMAND [ARGUMENT...]

Runs a command and sends what it prints to the log store as lines of the service NAME, what comes on
standard error as errors. Standard input is the command's; SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and
SIGUSR2 are passed on. Without eventd the command runs all the same, and the oldest lines are lost.

Ends with the command's exit code, 128 + n when signal n ended it, 127 when there is no such command,
126 when it cannot be run. What processes left behind print later is not waited for.

  evctl run backup -- rsync -a /home /backup
  evctl run --tee build -- make -j4
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
