/** Registry values: typed blobs (HOST-29), their encodings and strict decoding (HOST-30). */

/** Registry type codes. */
export const REG = {
  NONE: 0,
  SZ: 1,
  EXPAND_SZ: 2,
  BINARY: 3,
  DWORD: 4,
  DWORD_BIG_ENDIAN: 5,
  LINK: 6,
  MULTI_SZ: 7,
  QWORD: 11,
} as const;

/** A value as the registry holds it. The empty name is the unnamed value. */
export interface RegistryValue {
  readonly name: string;
  readonly type: number;
  readonly data: Uint8Array;
}

/** What a value holds, apart from its name. */
export type RegistryData = Omit<RegistryValue, 'name'>;

const TYPE_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(REG).map(([name, code]) => [code, `REG_${name}`]),
);

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** `REG_DWORD`, or `type 99` for a code without a name. */
export function registryTypeName(type: number): string {
  return TYPE_NAMES.get(type) ?? `type ${type}`;
}

/** A REG_SZ: UTF-8 with a closing NUL. */
export function szData(text: string): RegistryData {
  return { type: REG.SZ, data: Uint8Array.from(Buffer.from(`${text}\0`, 'utf8')) };
}

export function dwordData(value: number): RegistryData {
  const data = new Uint8Array(4);
  new DataView(data.buffer).setUint32(0, value, true);
  return { type: REG.DWORD, data };
}

export function qwordData(value: bigint): RegistryData {
  const data = new Uint8Array(8);
  new DataView(data.buffer).setBigUint64(0, value, true);
  return { type: REG.QWORD, data };
}

/** A REG_MULTI_SZ: each string with its NUL, then a final NUL. */
export function multiSzData(texts: readonly string[]): RegistryData {
  const joined = texts.map((text) => `${text}\0`).join('');
  return { type: REG.MULTI_SZ, data: Uint8Array.from(Buffer.from(`${joined}\0`, 'utf8')) };
}

export function binaryData(data: Uint8Array): RegistryData {
  return { type: REG.BINARY, data };
}

/** The text of SZ bytes: at most one trailing NUL is stripped. Null = a further NUL or no UTF-8. */
export function decodeSz(data: Uint8Array): string | null {
  const text = decodeUtf8(data.at(-1) === 0 ? data.subarray(0, -1) : data);
  return text === null || text.includes('\0') ? null : text;
}

/** Null = not exactly 4 bytes. */
export function decodeDword(data: Uint8Array): number | null {
  return data.length === 4 ? view(data).getUint32(0, true) : null;
}

/** Null = not exactly 8 bytes. */
export function decodeQword(data: Uint8Array): bigint | null {
  return data.length === 8 ? view(data).getBigUint64(0, true) : null;
}

/** The strings of MULTI_SZ bytes. Null = no closing NUL, an empty string inside, or no UTF-8. */
export function decodeMultiSz(data: Uint8Array): readonly string[] | null {
  const text = decodeUtf8(data);
  if (text === null || !text.endsWith('\0')) return null;
  const texts = text.slice(0, -1).split('\0');
  if (texts.pop() !== '') return null;
  return texts.includes('') ? null : texts;
}

function decodeUtf8(data: Uint8Array): string | null {
  try {
    return utf8.decode(data);
  } catch {
    return null;
  }
}

function view(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

export function sameData(a: RegistryData, b: RegistryData): boolean {
  return (
    a.type === b.type && a.data.length === b.data.length && a.data.every((byte, i) => byte === b.data[i])
  );
}
