/**
 * From registry values to settings: at the start (CFG-3, CFG-5, CFG-6, CFG-10) and when values
 * change while eventd runs (CFG-4, CFG-71, CFG-73, LIFE-141..143).
 */
import { posix } from 'node:path';
import { foldName } from './names.js';
import { checkSetting, expectedOf } from './settingCheck.js';
import {
  SETTING_NAMES,
  type SettingName,
  type Settings,
  type SettingValue,
  settingOf,
  THRESHOLD_PAIRS,
} from './settings.js';
import { decodeDword, REG, type RegistryValue, registryTypeName } from './value.js';

/** A value that was not taken over. */
export interface SettingProblem {
  readonly key: string;
  readonly found: string;
  readonly expected: string;
  /** True when eventd must not start with it (CFG-10). */
  readonly fatal: boolean;
  /** The other key of a pair that falls back as one (CFG-6). */
  readonly partner?: SettingName;
  /** One line for the operator with all of the above and what holds instead. */
  readonly message: string;
}

/** One setting with a new value in force. */
export interface AppliedChange {
  readonly key: SettingName;
  readonly old: SettingValue;
  readonly new: SettingValue;
}

type Draft = Map<SettingName, SettingValue>;

interface Resolution {
  readonly draft: Draft;
  readonly problems: SettingProblem[];
}

/** What holds where a value is invalid: the default at the start, the value in force later. */
type Fallback = (name: SettingName) => SettingValue;

function problem(key: string, found: string, expected: string, instead: string | null): SettingProblem {
  const consequence = instead === null ? '' : `; ${instead} stays in force`;
  const message = `${key}: found ${found}, expected ${expected}${consequence}`;
  return { key, found, expected, fatal: instead === null, message };
}

/** A value in a message. */
export function shown(value: SettingValue): string {
  if (Array.isArray(value)) return `[${value.join(', ')}]`;
  return value === null ? 'nothing' : String(value);
}

function isRequired(name: SettingName): boolean {
  const setting = settingOf(name);
  return setting.type === 'path' && setting.required;
}

function resolve(values: readonly RegistryValue[], fallback: Fallback, starting: boolean): Resolution {
  const byName = new Map(values.map((value) => [foldName(value.name), value]));
  const draft: Draft = new Map();
  const problems: SettingProblem[] = [];
  for (const name of SETTING_NAMES) {
    const setting = settingOf(name);
    const value = byName.get(foldName(name));
    const insteadOf = () => (starting && isRequired(name) ? null : shown(fallback(name)));
    if (value === undefined) {
      if (isRequired(name)) problems.push(problem(name, 'nothing', expectedOf(setting), insteadOf()));
      draft.set(name, isRequired(name) ? fallback(name) : setting.default);
      continue;
    }
    const check = checkSetting(setting, value);
    if (!check.valid) problems.push(problem(name, check.found, expectedOf(setting), insteadOf()));
    draft.set(name, check.valid ? check.value : fallback(name));
  }
  separatePaths(draft, problems, fallback, starting);
  orderThresholds(draft, problems, fallback);
  return { draft, problems };
}

/** All paths differ from each other (CFG-17); a later one in the table gives way. */
function separatePaths(
  draft: Draft,
  problems: SettingProblem[],
  fallback: Fallback,
  starting: boolean,
): void {
  const owners = new Map<string, SettingName>();
  for (const name of SETTING_NAMES) {
    const path = draft.get(name);
    if (settingOf(name).type !== 'path' || typeof path !== 'string') continue;
    const normal = posix.resolve(path);
    const owner = owners.get(normal);
    if (owner === undefined) {
      owners.set(normal, name);
      continue;
    }
    const instead = starting && isRequired(name) ? null : shown(fallback(name));
    problems.push(problem(name, `the path of ${owner} (${path})`, 'a path of its own', instead));
    draft.set(name, fallback(name));
  }
}

function orderThresholds(draft: Draft, problems: SettingProblem[], fallback: Fallback): void {
  for (const [create, drop] of THRESHOLD_PAIRS) {
    const [upper, lower] = [Number(draft.get(create)), Number(draft.get(drop))];
    if (lower < upper) continue;
    const instead = `the pair ${shown(fallback(create))} and ${shown(fallback(drop))}`;
    const found = `${lower} with ${create} ${upper}`;
    problems.push({ ...problem(drop, found, `less than ${create}`, instead), partner: create });
    draft.set(create, fallback(create));
    draft.set(drop, fallback(drop));
  }
}

function asSettings(draft: Draft): Settings {
  // Every name of the table was resolved to a value its own entry accepts.
  return Object.freeze(Object.fromEntries(draft)) as unknown as Settings;
}

/**
 * What holds after reading `values` and what is wrong with them, also where nothing can start.
 *
 * @param inForce null = at the start
 */
export function resolveSettings(
  values: readonly RegistryValue[],
  inForce: Settings | null,
): { readonly draft: ReadonlyMap<SettingName, SettingValue>; readonly problems: readonly SettingProblem[] } {
  const fallback: Fallback = (name) => (inForce === null ? settingOf(name).default : inForce[name]);
  return resolve(values, fallback, inForce === null);
}

/**
 * Settings at the start.
 *
 * @returns `settings` null when a required value is missing or invalid (CFG-10); the fatal problems
 * say which.
 */
export function readSettings(values: readonly RegistryValue[]): {
  readonly settings: Settings | null;
  readonly problems: readonly SettingProblem[];
} {
  const { draft, problems } = resolve(values, (name) => settingOf(name).default, true);
  return { settings: problems.some(({ fatal }) => fatal) ? null : asSettings(draft), problems };
}

/**
 * Settings after a change at runtime. Invalid values leave what is in force, deleted optional ones
 * return to their default, restart-only ones are reported and left alone.
 *
 * @param current the settings in force
 */
export function applyChange(
  current: Settings,
  values: readonly RegistryValue[],
): {
  readonly settings: Settings;
  readonly applied: readonly AppliedChange[];
  /** Valid new values that wait for a restart. Reported again on every call until then. */
  readonly deferredRestart: readonly SettingName[];
  readonly problems: readonly SettingProblem[];
} {
  const { draft, problems } = resolve(values, (name) => current[name], false);
  const applied: AppliedChange[] = [];
  const deferredRestart: SettingName[] = [];
  for (const [name, value] of draft) {
    if (sameSetting(current[name], value)) continue;
    if (settingOf(name).live) {
      applied.push({ key: name, old: current[name], new: value });
    } else {
      deferredRestart.push(name);
      draft.set(name, current[name]);
    }
  }
  return { settings: applied.length > 0 ? asSettings(draft) : current, applied, deferredRestart, problems };
}

export function sameSetting(a: SettingValue, b: SettingValue): boolean {
  if (!Array.isArray(a) || !Array.isArray(b)) return a === b;
  return a.length === b.length && a.every((item, index) => item === b[index]);
}

/**
 * The problems that were not reported before, so that each is logged once (CFG-5). Keys that are
 * fine again are forgotten.
 *
 * @param reported messages reported so far; changed in place
 */
export function freshProblems(reported: Set<string>, problems: readonly SettingProblem[]): SettingProblem[] {
  const fresh = problems.filter(({ message }) => !reported.has(message));
  reported.clear();
  for (const { message } of problems) reported.add(message);
  return fresh;
}

/** What eventd reads from its own service definition (HOST-18, HOST-21). */
export interface ServiceSettings {
  readonly stopTimeoutSeconds: number;
  /** 0 = no watchdog. */
  readonly watchdogTimeoutSeconds: number;
}

/** peinit's own defaults (HOST-25). */
export const SERVICE_DEFAULTS: ServiceSettings = { stopTimeoutSeconds: 10, watchdogTimeoutSeconds: 0 };

/** Reads `Machine\System\Services\eventd`; invalid values give way to peinit's defaults. */
export function readServiceSettings(values: readonly RegistryValue[]): {
  readonly settings: ServiceSettings;
  readonly problems: readonly SettingProblem[];
} {
  const problems: SettingProblem[] = [];
  const seconds = (name: string, standard: number): number => {
    const value = values.find((candidate) => foldName(candidate.name) === foldName(name));
    if (value === undefined) return standard;
    const number = value.type === REG.DWORD ? decodeDword(value.data) : null;
    if (number !== null) return number;
    const found =
      value.type === REG.DWORD ? `REG_DWORD of ${value.data.length} bytes` : registryTypeName(value.type);
    problems.push(problem(name, found, 'REG_DWORD with seconds', String(standard)));
    return standard;
  };
  const settings = {
    stopTimeoutSeconds: seconds('StopTimeout', SERVICE_DEFAULTS.stopTimeoutSeconds),
    watchdogTimeoutSeconds: seconds('WatchdogTimeout', SERVICE_DEFAULTS.watchdogTimeoutSeconds),
  };
  return { settings, problems };
}
