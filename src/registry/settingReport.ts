/**
 * Every setting with what is in force and why, for `evctl config`: told by the running daemon on its
 * debug socket, or worked out from a hive file the way a start would.
 */
import { resolveSettings, sameSetting, shown } from './configuration.js';
import { foldName } from './names.js';
import { SETTING_NAMES, type SettingName, type Settings, type SettingValue, settingOf } from './settings.js';
import type { RegistryValue } from './value.js';

/** Where a value in force comes from. `kept`: what the hive says does not hold, or not yet. */
export type SettingSource = 'hive' | 'default' | 'kept';

/** One setting, as it stands. */
export interface SettingState {
  readonly key: SettingName;
  /** Null = off, or, before a start, a required value that is missing or invalid. */
  readonly value: SettingValue;
  readonly source: SettingSource;
  /** Why the hive's value is not taken, or null. */
  readonly problem: string | null;
  /** The hive's valid value that waits for a restart; null = none does. */
  readonly next: SettingValue;
}

/**
 * Compares the hive with what is in force.
 *
 * @param values of `Machine\System\eventd`
 * @param inForce the daemon's settings; null = nobody runs, what a start would take is meant
 */
export function settingStates(
  values: readonly RegistryValue[],
  inForce: Settings | null,
): readonly SettingState[] {
  const present = new Set(values.map(({ name }) => foldName(name)));
  const { draft, problems } = resolveSettings(values, inForce);
  const reasons = new Map<string, string>();
  for (const { key, partner, found, expected } of problems) {
    const reason = `found ${found}, expected ${expected}`;
    if (!reasons.has(key)) reasons.set(key, reason);
    if (partner !== undefined && !reasons.has(partner)) reasons.set(partner, `${key}: ${reason}`);
  }
  return SETTING_NAMES.map((key): SettingState => {
    const wanted = draft.get(key) ?? null;
    const value = inForce === null ? wanted : inForce[key];
    const problem = reasons.get(key) ?? null;
    const waits = problem === null && !sameSetting(value, wanted);
    const isDefault = sameSetting(value, settingOf(key).default);
    const fromHive = problem === null && !waits && present.has(foldName(key));
    return {
      key,
      value,
      source: fromHive ? 'hive' : isDefault && !waits ? 'default' : 'kept',
      problem,
      next: waits ? wanted : null,
    };
  });
}

/** A setting as JSON can carry it: 64-bit numbers as text. */
export interface SettingMessage extends Omit<SettingState, 'value' | 'next'> {
  readonly value: Exclude<SettingValue, bigint>;
  readonly next: Exclude<SettingValue, bigint>;
}

export function settingMessage(state: SettingState): SettingMessage {
  return { ...state, value: portable(state.value), next: portable(state.next) };
}

function portable(value: SettingValue): Exclude<SettingValue, bigint> {
  return typeof value === 'bigint' ? value.toString() : value;
}

/**
 * Reads what `settingMessage` made, with suspicion.
 *
 * @returns null for anything this version has no setting for, or that is of the wrong kind
 */
export function readSettingMessage(message: unknown): SettingState | null {
  if (typeof message !== 'object' || message === null) return null;
  const { key, value, source, problem, next } = message as Readonly<Record<string, unknown>>;
  const name = SETTING_NAMES.find((known) => known === key);
  if (name === undefined || (source !== 'hive' && source !== 'default' && source !== 'kept')) return null;
  const [now, later] = [checkedValue(name, value), checkedValue(name, next)];
  if (now === undefined || later === undefined) return null;
  return {
    key: name,
    value: now,
    source,
    problem: typeof problem === 'string' ? problem : null,
    next: later,
  };
}

function checkedValue(name: SettingName, value: unknown): SettingValue | undefined {
  if (value === null) return null;
  switch (settingOf(name).type) {
    case 'path':
      return typeof value === 'string' ? value : undefined;
    case 'dword':
      return typeof value === 'number' ? value : undefined;
    case 'qword':
      return typeof value === 'string' && /^\d{1,20}$/.test(value) ? BigInt(value) : undefined;
    case 'names':
      return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : undefined;
  }
}

/** A value for the eye: an empty list and an absent path are `none`. */
export function settingText(value: SettingValue): string {
  if (value === null || (Array.isArray(value) && value.length === 0)) return 'none';
  return Array.isArray(value) ? value.join(', ') : shown(value);
}

/** What a setting may be, for the eye. */
export function rangeText(key: SettingName): string {
  const setting = settingOf(key);
  if (setting.type === 'path') return `path, ${setting.maxBytes} bytes`;
  if (setting.type === 'names') return `${setting.max} names`;
  // Twenty digits say less than the power.
  return `${setting.min}..${setting.type === 'qword' ? '2^64-1' : setting.max}`;
}
