/**
 * The registry commands of the command line (HOST-64). Each takes the hive file and its arguments
 * and answers with the text to print.
 */
import { compileDescriptor } from '../access/compiledDescriptor.js';
import { sddlToSecurityDescriptor } from '../access/sddl.js';
import type { Hive, HiveKey } from './hive.js';
import { editHive, inspectHive } from './hiveFile.js';
import { formatHiveData, HiveSyntaxError, parseHiveData } from './hiveSyntax.js';
import { EVENTD_KEY, foldName, foldPath, SECURITY_KEY, splitKeyPath } from './names.js';
import { RegistryError } from './registryError.js';
import { SECURITY_DEFAULTS } from './securityDefaults.js';
import { checkSetting, encodeSetting, expectedOf } from './settingCheck.js';
import { SETTING_NAMES, type Setting, type SettingValue, settingOf } from './settings.js';
import { binaryData, type RegistryData, type RegistryValue, szData } from './value.js';

/** Wrong usage of a command; programs exit with 2. `code` is always `ERR_USAGE`. */
export class RegistryUsageError extends Error {
  readonly code = 'ERR_USAGE';
  override readonly name = 'RegistryUsageError';
}

/** How each command is called, for help texts. */
export const REGISTRY_USAGE = {
  get: 'get KEY [NAME] | get SETTING',
  set: 'set KEY NAME VALUE | set SETTING VALUE',
  del: 'del KEY NAME | del SETTING',
  ls: 'ls [KEY]',
  'set-sd': 'set-sd KEY PATTERN SDDL | set-sd Events|Logs|Metrics PATTERN SDDL',
} as const;

export type RegistryCommand = keyof typeof REGISTRY_USAGE;

/** 10 MiB: every setting that is a QWORD is a limit in bytes. */
const EXAMPLE_BYTES = 10n * 1024n * 1024n;

const COMMANDS: Readonly<
  Record<RegistryCommand, (file: string, args: readonly string[]) => Promise<string>>
> = {
  get: registryGet,
  set: registrySet,
  del: registryDelete,
  ls: registryList,
  'set-sd': registrySetSecurity,
};

/**
 * Runs one command.
 *
 * @throws RegistryUsageError, RegistryError, HiveParseError or a file system error, all with a
 * message fit for the operator
 */
export async function runRegistryCommand(
  file: string,
  command: string,
  args: readonly string[],
): Promise<string> {
  if (!Object.hasOwn(COMMANDS, command)) {
    const known = Object.keys(COMMANDS).join(', ');
    throw new RegistryUsageError(`unknown registry command ${JSON.stringify(command)}; there are ${known}`);
  }
  return COMMANDS[command as RegistryCommand](file, args);
}

/**
 * The values of eventd's own key, whoever owns the file; none where the key is missing.
 *
 * @throws HiveParseError or a file system error
 */
export async function readSettingValues(file: string): Promise<readonly RegistryValue[]> {
  return [...((await inspectHive(file)).key(EVENTD_KEY)?.values.values() ?? [])];
}

/** Prints one value in hive syntax, or all values of a key, one a line. */
export async function registryGet(file: string, args: readonly string[]): Promise<string> {
  const hive = await inspectHive(file);
  const [first = '', second] = arity('get', args, 1, 2);
  const setting = second === undefined ? settingName(first) : undefined;
  if (second === undefined && setting === undefined) return listValues(requireKey(hive, first)).join('\n');
  const key = setting === undefined ? first : EVENTD_KEY;
  return formatHiveData(requireValue(hive, key, setting ?? valueName(second ?? '')));
}

/**
 * Sets a value, creating missing keys. VALUE is hive syntax; known settings also take a plain number,
 * path or comma-separated names, and refuse what eventd would ignore.
 */
export async function registrySet(file: string, args: readonly string[]): Promise<string> {
  const short = args.length === 2;
  const [key = '', name = '', text = ''] = short ? [EVENTD_KEY, ...args] : arity('set', args, 3, 3);
  const value = valueName(name);
  const known = isEventdKey(key) ? settingName(value) : undefined;
  if (short && known === undefined) {
    throw new RegistryUsageError(
      `${JSON.stringify(name)} is no setting of eventd; usage: ${REGISTRY_USAGE.set}`,
    );
  }
  const data = known === undefined ? parseValue(text) : parseSetting(known, settingOf(known), text);
  await editHive(file, (hive) => withKeys(hive, key).withValue(key, known ?? value, data));
  return `${quoteName(known ?? value)}=${formatHiveData(data)}`;
}

/** Deletes a value. */
export async function registryDelete(file: string, args: readonly string[]): Promise<string> {
  const [first = '', second] = arity('del', args, 1, 2);
  const setting = second === undefined ? settingName(first) : undefined;
  if (second === undefined && setting === undefined) {
    throw new RegistryUsageError(
      `${JSON.stringify(first)} is no setting of eventd; usage: ${REGISTRY_USAGE.del}`,
    );
  }
  const key = setting === undefined ? first : EVENTD_KEY;
  const name = setting ?? valueName(second ?? '');
  await editHive(file, (hive) => hive.withoutValue(key, name));
  return `${quoteName(name)} deleted`;
}

/** Lists the subkeys of a key in brackets, then its values. Without a key the hives. */
export async function registryList(file: string, args: readonly string[]): Promise<string> {
  const hive = await inspectHive(file);
  const [path] = arity('ls', args, 0, 1);
  const key = path === undefined ? undefined : requireKey(hive, path);
  const depth = key?.path.length ?? 0;
  const parent = foldPath(key?.path ?? []);
  const subkeys = [...hive.keys.values()]
    .filter((other) => other.path.length === depth + 1 && foldPath(other.path.slice(0, depth)) === parent)
    .map((other) => `[${other.path.at(-1)}]`);
  return [...subkeys, ...(key === undefined ? [] : listValues(key))].join('\n');
}

/** Sets the security descriptor of a pattern from SDDL. */
export async function registrySetSecurity(file: string, args: readonly string[]): Promise<string> {
  const [where = '', pattern = '', sddl = ''] = arity('set-sd', args, 3, 3);
  if (pattern === '') throw new RegistryUsageError('the unnamed value is no pattern; use "*" for everything');
  const namespace = Object.keys(SECURITY_DEFAULTS).find((name) => foldName(name) === foldName(where));
  const key = namespace === undefined ? where : `${SECURITY_KEY}\\${namespace}`;
  const data = binaryData(sddlToSecurityDescriptor(sddl));
  await editHive(file, (hive) => withKeys(hive, key).withValue(key, pattern, data));
  // Kept all the same: what a descriptor without owner means is the access check's to say (ACL-64).
  const hasOwner = compileDescriptor(data.data).owner !== null;
  const warning = hasOwner ? '' : '\nwarning: without an owner (O:SY) it denies everything';
  return `${quoteName(pattern)}=${formatHiveData(data)}${warning}`;
}

function arity(
  command: RegistryCommand,
  args: readonly string[],
  least: number,
  most: number,
): readonly string[] {
  if (args.length < least || args.length > most)
    throw new RegistryUsageError(`usage: ${REGISTRY_USAGE[command]}`);
  return args;
}

/** `@` stands for the unnamed value, as in hive files. */
function valueName(argument: string): string {
  return argument === '@' ? '' : argument;
}

function quoteName(name: string): string {
  return name === '' ? '@' : JSON.stringify(name);
}

function settingName(name: string): (typeof SETTING_NAMES)[number] | undefined {
  return SETTING_NAMES.find((known) => foldName(known) === foldName(name));
}

function isEventdKey(key: string): boolean {
  return foldPath(splitKeyPath(key)) === foldPath(splitKeyPath(EVENTD_KEY));
}

function requireKey(hive: Hive, path: string): HiveKey {
  const key = hive.key(path);
  if (key === undefined) throw new RegistryError('ENOENT', `no key ${path} in ${hive.file}`);
  return key;
}

function requireValue(hive: Hive, path: string, name: string): RegistryData {
  const value = requireKey(hive, path).values.get(foldName(name));
  if (value !== undefined) return value;
  const setting = isEventdKey(path) ? settingName(name) : undefined;
  const standard = setting === undefined ? null : settingOf(setting).default;
  const hint = standard === null ? '' : `; the default is ${plainText(standard)}`;
  throw new RegistryError('ENOENT', `no value ${quoteName(name)} in ${path}${hint}`);
}

function listValues(key: HiveKey): string[] {
  return [...key.values.values()].map((value) => `${quoteName(value.name)}=${formatHiveData(value)}`);
}

function withKeys(hive: Hive, path: string): Hive {
  const components = splitKeyPath(path);
  return components.reduce(
    (grown, _, depth) => grown.withKey(components.slice(0, depth + 1).join('\\')),
    hive,
  );
}

function parseValue(text: string): RegistryData {
  try {
    const data = parseHiveData(text);
    if (data !== null) return data;
  } catch (error) {
    if (!(error instanceof HiveSyntaxError)) throw error;
    throw new RegistryUsageError(`value:${error.offset + 1}: ${error.message}`);
  }
  throw new RegistryUsageError('"-" deletes a value; use del');
}

function parseSetting(name: string, setting: Setting, text: string): RegistryData {
  const data = plainSetting(setting, text) ?? parseHiveSetting(name, setting, text);
  const check = checkSetting(setting, data);
  if (check.valid) return data;
  throw new RegistryUsageError(`${name}: found ${check.found}, expected ${expectedOf(setting)}`);
}

/** Hive syntax; what is neither that nor the shorthand is told what the setting takes. */
function parseHiveSetting(name: string, setting: Setting, text: string): RegistryData {
  if (/^("|-$|(dword|qword|hex|multi|sddl):|hex\()/.test(text)) return parseValue(text);
  throw new RegistryUsageError(`${name} takes ${shorthandOf(setting)}`);
}

/** The shorthand of {@link plainSetting} in words. */
function shorthandOf(setting: Setting): string {
  switch (setting.type) {
    case 'path':
      return 'an absolute path, such as /run/eventd/name.sock';
    case 'names':
      return 'names with commas between them, such as wheel,adm';
    case 'qword':
      return `a whole number of ${setting.unit}, such as ${EXAMPLE_BYTES}`;
    case 'dword': {
      const unit = setting.unit === '' ? '' : ` of ${setting.unit}`;
      return `a whole number${unit} from ${setting.min} to ${setting.max}, such as ${setting.default}`;
    }
  }
}

/** A value as the shorthand writes it. */
function plainText(value: NonNullable<SettingValue>): string {
  return typeof value === 'object' ? value.join(',') || 'none' : String(value);
}

/** The shorthand a known setting takes, or null when the text must be hive syntax. */
function plainSetting(setting: Setting, text: string): RegistryData | null {
  if (setting.type === 'path') return text.startsWith('/') ? szData(text) : null;
  if (setting.type === 'names') {
    return /^[^":]+$/.test(text)
      ? encodeSetting(
          setting,
          text.split(',').map((name) => name.trim()),
        )
      : null;
  }
  if (!/^[0-9]{1,20}$/.test(text)) return null;
  const number = BigInt(text);
  const limit = setting.type === 'dword' ? 0xffffffffn : 0xffff_ffff_ffff_ffffn;
  if (number > limit) throw new RegistryUsageError(`${text} is too large`);
  return encodeSetting(setting, setting.type === 'qword' ? number : Number(number));
}
