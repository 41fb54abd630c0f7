/**
 * One table of options per program: what is parsed and what `--help` prints come from the same rows,
 * so they cannot disagree.
 */

import { parseArgs } from 'node:util';
import { messageOf } from '../host/errorMessage.js';

/** The command line makes no sense; the program prints the message and exits with 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** One row of an option table. */
export interface OptionRow {
  readonly name: string;
  readonly short?: string;
  /** Placeholder of the value (`PATH`); without it the option is a switch. */
  readonly value?: string;
  readonly help: string;
  /** Allowed values, checked while parsing. */
  readonly choices?: readonly string[];
  /** Environment variable that supplies the value when the option is absent. */
  readonly env?: string;
  readonly default?: string;
  /** Subcommands that take the option; absent: all of them and the plain form. */
  readonly commands?: readonly string[];
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** A parsed command line. */
export class ParsedOptions {
  constructor(
    readonly positionals: readonly string[],
    readonly switches: ReadonlySet<string>,
    readonly values: ReadonlyMap<string, string>,
    /** The positionals that stood behind `--`. */
    readonly operands: readonly string[] = [],
    /** Options with a value that the command line itself names. */
    readonly named: ReadonlySet<string> = new Set(),
  ) {}

  /** Was the switch given? */
  has(name: string): boolean {
    return this.switches.has(name);
  }

  /** The value given, else the environment's, else the default; undefined if there is none. */
  get(name: string): string | undefined {
    return this.values.get(name);
  }
}

/**
 * The first positional argument if it names one of `commands`, and the other arguments.
 * Options may stand before it.
 */
export function splitCommand(
  args: readonly string[],
  table: readonly OptionRow[],
  commands: readonly string[],
): { readonly command: string | null; readonly rest: readonly string[] } {
  const { tokens } = parseArgs({
    args: [...args],
    options: parserConfig(table),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const first = tokens.find((token) => token.kind === 'positional' || token.kind === 'option-terminator');
  if (first?.kind !== 'positional' || !commands.includes(first.value)) return { command: null, rest: args };
  return { command: first.value, rest: args.filter((_, index) => index !== first.index) };
}

/**
 * Parses `args` against the rows that apply to `command` (null: the plain form).
 * @throws {UsageError} for unknown options, missing or bad values
 */
export function parseOptions(
  args: readonly string[],
  table: readonly OptionRow[],
  command: string | null,
  env: Environment,
): ParsedOptions {
  const rows = rowsOf(table, command);
  let parsed: ReturnType<typeof parseStrictly>;
  try {
    parsed = parseStrictly(args, rows);
  } catch (error) {
    // Only the first sentence: the rest explains parseArgs, not the program.
    const text = messageOf(error);
    throw new UsageError(text.split('. ')[0] ?? text);
  }
  const switches = new Set<string>();
  const values = new Map<string, string>();
  const named = new Set<string>();
  for (const row of rows) {
    const given = parsed.values[row.name];
    if (row.value === undefined) {
      if (given === true) switches.add(row.name);
      continue;
    }
    const fromEnvironment = row.env === undefined ? undefined : env[row.env];
    const value = typeof given === 'string' ? unmasked(given) : fromEnvironment || row.default;
    if (value === undefined) continue;
    if (value === '') throw new UsageError(`--${row.name}: must not be empty`);
    if (row.choices !== undefined && !row.choices.includes(value))
      throw new UsageError(`--${row.name}: must be ${listed(row.choices)}, not '${value.slice(0, 40)}'`);
    values.set(row.name, value);
    if (typeof given === 'string') named.add(row.name);
  }
  const positionals = parsed.positionals.map(unmasked);
  const terminator = parsed.tokens.findIndex((token) => token.kind === 'option-terminator');
  const behind = terminator === -1 ? 0 : parsed.tokens.length - terminator - 1;
  return new ParsedOptions(
    positionals,
    switches,
    values,
    positionals.slice(positionals.length - behind),
    named,
  );
}

function parseStrictly(args: readonly string[], rows: readonly OptionRow[]) {
  return parseArgs({
    args: args.map(masked),
    options: parserConfig(rows),
    strict: true,
    allowPositionals: true,
    tokens: true,
  });
}

/** A negative number is a value and no option. No argument can contain the mark. */
function masked(arg: string): string {
  return /^-\.?\d/.test(arg) ? `\0${arg}` : arg;
}

function unmasked(arg: string): string {
  return arg.startsWith('\0') ? arg.slice(1) : arg;
}

/** The option part of a help text: one aligned entry per row that applies. */
export function optionHelp(table: readonly OptionRow[], command: string | null): string {
  const rows = rowsOf(table, command).map((row) => {
    const short = row.short === undefined ? '    ' : `-${row.short}, `;
    const value = row.value === undefined ? '' : ` ${row.choices?.join('|') ?? row.value}`;
    return { flag: `  ${short}--${row.name}${value}`, text: `${row.help}${origin(row)}` };
  });
  const width = Math.max(...rows.map((row) => row.flag.length)) + 2;
  return rows.map((row) => `${row.flag.padEnd(width)}${row.text}\n`).join('');
}

function origin(row: OptionRow): string {
  const parts = [
    ...(row.env === undefined ? [] : [`$${row.env}`]),
    ...(row.default === undefined ? [] : [`default ${row.default}`]),
  ];
  return parts.length === 0 ? '' : ` (${parts.join('; ')})`;
}

function rowsOf(table: readonly OptionRow[], command: string | null): readonly OptionRow[] {
  return table.filter((row) => row.commands === undefined || row.commands.includes(command ?? ''));
}

function parserConfig(rows: readonly OptionRow[]) {
  return Object.fromEntries(
    rows.map((row) => [
      row.name,
      {
        type: row.value === undefined ? ('boolean' as const) : ('string' as const),
        ...(row.short === undefined ? {} : { short: row.short }),
      },
    ]),
  );
}

function listed(words: readonly string[]): string {
  return words.length < 2 ? words.join() : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}
