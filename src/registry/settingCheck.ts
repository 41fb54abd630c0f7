/** Checks one registry value against the settings table (CFG-3, CFG-5, CFG-17). */
import type { Setting, SettingValue } from './settings.js';
import {
  decodeDword,
  decodeMultiSz,
  decodeQword,
  decodeSz,
  dwordData,
  multiSzData,
  qwordData,
  REG,
  type RegistryData,
  registryTypeName,
  szData,
} from './value.js';

/** The outcome of a check. */
export type SettingCheck =
  | { readonly valid: true; readonly value: SettingValue }
  | { readonly valid: false; readonly found: string };

const REGISTRY_TYPES = { path: REG.SZ, dword: REG.DWORD, qword: REG.QWORD, names: REG.MULTI_SZ } as const;

function invalid(found: string): SettingCheck {
  return { valid: false, found };
}

/** What a value of this setting must look like, for messages. */
export function expectedOf(setting: Setting): string {
  switch (setting.type) {
    case 'path':
      return `REG_SZ with an absolute path of at most ${setting.maxBytes} bytes`;
    case 'names':
      return `REG_MULTI_SZ with at most ${setting.max} names`;
    default:
      return `${setting.type === 'dword' ? 'REG_DWORD' : 'REG_QWORD'} from ${setting.min} to ${setting.max}`;
  }
}

/** Decodes a value; nothing is coerced or clamped. */
export function checkSetting(setting: Setting, { type, data }: RegistryData): SettingCheck {
  if (type !== REGISTRY_TYPES[setting.type]) return invalid(registryTypeName(type));
  switch (setting.type) {
    case 'path':
      return checkPath(decodeSz(data), setting.maxBytes);
    case 'names': {
      const names = decodeMultiSz(data);
      if (names === null) return invalid('a malformed REG_MULTI_SZ');
      return names.length > setting.max ? invalid(`${names.length} names`) : { valid: true, value: names };
    }
    case 'dword': {
      const value = decodeDword(data);
      if (value === null) return invalid(`REG_DWORD of ${data.length} bytes`);
      return value < setting.min || value > setting.max ? invalid(String(value)) : { valid: true, value };
    }
    case 'qword': {
      const value = decodeQword(data);
      if (value === null) return invalid(`REG_QWORD of ${data.length} bytes`);
      return value < setting.min || value > setting.max ? invalid(String(value)) : { valid: true, value };
    }
  }
}

function checkPath(path: string | null, maxBytes: number): SettingCheck {
  if (path === null) return invalid('a REG_SZ with a NUL inside or without valid UTF-8');
  if (path === '') return invalid('an empty path');
  if (!path.startsWith('/')) return invalid(`the relative path ${JSON.stringify(path.slice(0, 200))}`);
  const length = Buffer.byteLength(path);
  return length > maxBytes ? invalid(`a path of ${length} bytes`) : { valid: true, value: path };
}

/** The registry form of a setting's value; null = absent. */
export function encodeSetting(setting: Setting, value: SettingValue): RegistryData | null {
  if (typeof value === 'string') return szData(value);
  if (typeof value === 'bigint') return qwordData(value);
  if (typeof value === 'number')
    return setting.type === 'qword' ? qwordData(BigInt(value)) : dwordData(value);
  return value === null ? null : multiSzData(value);
}
