/** `evctl config`: every setting with its value in force, from the running eventd or from its registry. */
import { readSettingValues } from '../registry/edit.js';
import { EVENTD_KEY, foldName } from '../registry/names.js';
import {
  rangeText,
  readSettingMessage,
  type SettingState,
  settingStates,
  settingText,
} from '../registry/settingReport.js';
import { SETTING_NAMES, type SettingName, type SettingValue, settingOf } from '../registry/settings.js';
import { openRegistry, type RegistrySource, sourceName, usualSource } from '../registry/source.js';
import type { RegistryValue } from '../registry/value.js';
import { ConnectionFailure, checkPath } from '../wire/client.js';
import { type CommandContext, CommandFailure, namedRegistry } from './context.js';
import { linesOf } from './inspectCommand.js';
import { UsageError } from './options.js';
import { Patience } from './patience.js';
import { jsonString, type Paint, padTo, visible } from './terminal.js';

/** Settings, and who told them. */
interface Configuration {
  readonly from: 'eventd' | RegistrySource['kind'];
  /** What the reader has to know of where they come from; empty = nothing. */
  readonly notes: readonly string[];
  readonly settings: readonly SettingState[];
}

/**
 * Prints the settings.
 *
 * @throws {CommandFailure | UsageError} what to tell the user; a start that would fail ends with 1, too
 */
export async function runConfig(context: CommandContext): Promise<void> {
  const { options, output, paint } = context;
  const wanted = new Set(options.positionals.map(settingName));
  const source = usualSource(namedRegistry(context));
  const told = options.named.has('registry') ? await fromRegistry(source, null) : await ask(context, source);
  const settings = told.settings.filter(({ key }) => wanted.size === 0 || wanted.has(key));
  if (options.get('format') === 'jsonl') {
    await output.write(settings.map((state) => jsonLine(state, told.from)).join(''));
  } else {
    const notes = told.notes.map((note) => `${paint('dim', visible(note))}\n`);
    await output.write(`${notes.join('')}${table(settings, paint)}`);
  }
  const missing = told.settings.filter(({ key, value }) => value === null && isRequired(key));
  if (missing.length > 0)
    throw new CommandFailure(`eventd would not start without ${missing.map(({ key }) => key).join(', ')}`);
}

function settingName(text: string): SettingName {
  const name = SETTING_NAMES.find((known) => foldName(known) === foldName(text));
  if (name === undefined) throw new UsageError(`${JSON.stringify(text)} is no setting of eventd`);
  return name;
}

function isRequired(key: SettingName): boolean {
  const setting = settingOf(key);
  return setting.type === 'path' && setting.required;
}

/** The running eventd, else what it would read. */
async function ask(context: CommandContext, source: RegistrySource): Promise<Configuration> {
  const path = context.options.get('debug-socket') ?? '';
  checkPath(path);
  try {
    return await fromEventd(context, path);
  } catch (error) {
    if (!(error instanceof ConnectionFailure || error instanceof CommandFailure)) throw error;
    return fromRegistry(source, error.message);
  }
}

async function fromEventd(context: CommandContext, path: string): Promise<Configuration> {
  const patience = new Patience(context, path);
  for await (const line of patience.watch(
    linesOf(path, patience.signal, () => false),
    false,
  )) {
    const message = line === null ? null : parsed(line);
    if (message?.type === '@eventd.refused') throw new CommandFailure(`${path}: ${String(message.reason)}`);
    if (line === null || message?.type === '@eventd.ready') break;
    if (message?.type !== '@eventd.configuration' || !Array.isArray(message.settings)) continue;
    const { unavailable, registry } = message;
    const notes = typeof registry === 'string' ? [`eventd reads ${registry}`] : [];
    return {
      from: 'eventd',
      notes: typeof unavailable === 'string' ? [`eventd keeps what it read last: ${unavailable}`] : notes,
      settings: message.settings.map(readSettingMessage).filter((state) => state !== null),
    };
  }
  throw new CommandFailure(`${path}: says nothing of the configuration`);
}

function parsed(line: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

async function fromRegistry(source: RegistrySource, whyNotAsked: string | null): Promise<Configuration> {
  const asked = whyNotAsked === null ? '' : ` (eventd was not asked: ${whyNotAsked})`;
  const name = sourceName(source);
  try {
    return {
      from: source.kind,
      notes: [`what a start would take from ${name}${asked}`],
      settings: settingStates(await valuesOf(source), null),
    };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const code = 'syscall' in error && 'code' in error ? String(error.code) : null;
    const reason = code === null ? error.message : `${name}: ${code === 'ENOENT' ? 'no such file' : code}`;
    throw new CommandFailure(`${reason}${asked}`);
  }
}

/** A hive file is read whoever owns it, which a start would not do. */
async function valuesOf(source: RegistrySource): Promise<readonly RegistryValue[]> {
  if (source.kind === 'hive') return readSettingValues(source.file);
  const registry = await openRegistry(source, { warn: () => undefined });
  try {
    return await registry.readValues(EVENTD_KEY);
  } finally {
    await registry.close();
  }
}

function jsonLine({ key, value, source, problem, next }: SettingState, from: Configuration['from']): string {
  const setting = settingOf(key);
  const range =
    setting.type === 'dword' || setting.type === 'qword'
      ? `{"min":${setting.min},"max":${setting.max}}`
      : 'null';
  const fields = {
    key: jsonString(key),
    value: json(value),
    default: json(setting.default),
    range,
    unit: jsonString(setting.unit),
    source: jsonString(source),
    applies: jsonString(setting.live ? 'live' : 'restart'),
    problem: problem === null ? 'null' : jsonString(problem),
    next: json(next),
    from: jsonString(from),
  };
  return `{${Object.entries(fields)
    .map(([name, text]) => `${jsonString(name)}:${text}`)
    .join(',')}}\n`;
}

/** All digits of 64-bit numbers. */
function json(value: SettingValue): string {
  if (typeof value === 'bigint') return value.toString();
  return typeof value === 'string' ? jsonString(value) : JSON.stringify(value);
}

const HEADER = ['setting', 'value', 'unit', 'default', 'range', 'source', 'applies'] as const;

function table(settings: readonly SettingState[], paint: Paint): string {
  const rows = settings.map(({ key, value, source }) => {
    const { unit, live, default: standard } = settingOf(key);
    const cells = [
      key,
      settingText(value),
      unit,
      settingText(standard),
      rangeText(key),
      source,
      live ? 'live' : 'restart',
    ];
    return cells.map(visible);
  });
  const widths = HEADER.map((name, column) =>
    Math.max(name.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => padTo(cell, widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  const lines = settings.map((state, index) => {
    const text = line(rows[index] ?? []);
    const trouble = troubleOf(state);
    return trouble === null ? `${text}\n` : `${paint('yellow', text)}\n  ${visible(trouble)}\n`;
  });
  return `${paint('bold', line(HEADER))}\n${lines.join('')}`;
}

function troubleOf({ problem, next }: SettingState): string | null {
  if (problem !== null) return problem;
  return next === null ? null : `${settingText(next)} takes effect at the next start`;
}
