/**
 * A hive file in memory: what it says, and edits that leave everything else in the file alone
 * (HOST-49, HOST-60, HOST-61).
 */
import { formatHiveData, formatHiveName, HIVE_HEADER, HiveSyntaxError, parseHiveLine } from './hiveSyntax.js';
import { checkValueName, foldName, foldPath, MAX_VALUE_BYTES, splitKeyPath } from './names.js';
import { RegistryError } from './registryError.js';
import type { RegistryData, RegistryValue } from './value.js';

/** Largest hive file that is read. */
export const MAX_HIVE_BYTES = 16 * 1024 * 1024;

/** A key with its values in file order. */
export interface HiveKey {
  /** Components as first written in the file. */
  readonly path: readonly string[];
  /** By folded name. */
  readonly values: ReadonlyMap<string, RegistryValue>;
}

/** A file that breaks the format; the message starts with `file:line:column:`. */
export class HiveParseError extends Error {
  readonly code = 'ERR_HIVE';
  override readonly name = 'HiveParseError';

  constructor(
    readonly file: string,
    readonly line: number,
    readonly column: number,
    readonly reason: string,
  ) {
    super(`${file}:${line}:${column}: ${reason}`);
  }
}

interface Line {
  readonly text: string;
  /** Its own line end, so that a file keeps mixed ones. Empty at the end of the file. */
  readonly end: string;
  /** For values: where they belong, and where the right-hand side lies. */
  readonly value?: {
    readonly key: string;
    readonly name: string;
    readonly valueAt: number;
    readonly valueEnd: number;
  };
  /** For sections: the folded key path. */
  readonly section?: string;
}

interface MutableKey {
  readonly path: readonly string[];
  readonly values: Map<string, RegistryValue>;
}

/** An immutable hive document. Edits return a new one. */
export class Hive {
  private constructor(
    /** The file's name in messages. */
    readonly file: string,
    private readonly lines: readonly Line[],
    /** Every key, parents included, by folded path in file order. */
    readonly keys: ReadonlyMap<string, HiveKey>,
    /** Duplicate names, each as `file:line:column: ...`. */
    readonly warnings: readonly string[],
  ) {}

  /**
   * @param content bytes of the file, or its text
   * @throws HiveParseError at the first mistake
   */
  static parse(content: Uint8Array | string, file: string): Hive {
    const texts = splitLines(typeof content === 'string' ? content : decode(content, file));
    const keys = new Map<string, MutableKey>();
    const warnings: string[] = [];
    const setAt = new Map<string, number>();
    let current: MutableKey | null = null;
    let currentId = '';
    const lines = texts.map(({ text, end }, index): Line => {
      const fail = (reason: string, offset: number): never => {
        throw new HiveParseError(file, index + 1, columnOf(text, offset), reason);
      };
      if (index === 0) {
        if (text.replace(/^\ufeff/, '').trimEnd() !== HIVE_HEADER)
          fail(`expected the first line "${HIVE_HEADER}"`, 0);
        return { text, end };
      }
      const statement = guard(() => parseHiveLine(text), fail);
      if (statement.kind === 'blank') return { text, end };
      if (statement.kind === 'section') {
        const path = guard(() => splitKeyPath(statement.path), fail, statement.pathAt);
        current = ensureKey(keys, path);
        currentId = foldPath(path);
        return { text, end, section: currentId };
      }
      if (current === null) return fail('expected a [key] before the first value', statement.nameAt);
      const { name, data, valueAt, valueEnd } = statement;
      guard(() => checkValueName(name), fail, statement.nameAt);
      if (data !== null && data.data.length > MAX_VALUE_BYTES)
        fail(`value exceeds ${MAX_VALUE_BYTES} bytes`, valueAt);
      const folded = foldName(name);
      const id = `${currentId}\\\0${folded}`;
      const before = setAt.get(id);
      if (data === null) {
        current.values.delete(folded);
        setAt.delete(id);
      } else {
        if (before !== undefined) {
          const at = `${file}:${index + 1}:${columnOf(text, statement.nameAt)}`;
          warnings.push(
            `${at}: ${formatHiveName(name)} was set on line ${before} already; the last one wins`,
          );
        }
        current.values.set(folded, { name, ...data });
        setAt.set(id, index + 1);
      }
      return { text, end, value: { key: currentId, name: folded, valueAt, valueEnd } };
    });
    if (texts.length === 0) throw new HiveParseError(file, 1, 1, `expected the first line "${HIVE_HEADER}"`);
    return new Hive(file, lines, keys, warnings);
  }

  /** The key at a path, or undefined. */
  key(path: string): HiveKey | undefined {
    return this.keys.get(foldPath(splitKeyPath(path)));
  }

  /** The text to write to disk. */
  toString(): string {
    return this.lines.map((line) => line.text + line.end).join('');
  }

  /**
   * Sets a value. An existing line keeps its place, its name's spelling and its comment.
   *
   * @throws RegistryError ENOENT without the key; EINVAL for a name the format cannot express.
   */
  withValue(path: string, name: string, data: RegistryData): Hive {
    checkValueName(name);
    if (data.data.length > MAX_VALUE_BYTES) {
      throw new RegistryError('ENOSPC', `value exceeds ${MAX_VALUE_BYTES} bytes`);
    }
    const id = this.requireKey(path);
    const right = formatHiveData(data);
    const last = this.lines.findLastIndex(
      (line) => line.value?.key === id && line.value.name === foldName(name),
    );
    const old = this.lines[last];
    if (old?.value !== undefined) {
      const text = old.text.slice(0, old.value.valueAt) + right + old.text.slice(old.value.valueEnd);
      return this.edited(this.lines.with(last, { text, end: old.end }));
    }
    const left = formatHiveName(name);
    if (left === null) throw new RegistryError('EINVAL', 'a hive file cannot express a name with a line end');
    const section = this.lines.findLastIndex((line) => line.section === id);
    if (section < 0) return this.appended([sectionHeader(path), `${left}=${right}`]);
    let at = section;
    for (let index = section + 1; index < this.lines.length; index++) {
      const line = this.lines[index];
      if (line?.section !== undefined) break;
      if (line?.value !== undefined) at = index;
    }
    return this.inserted(at + 1, `${left}=${right}`);
  }

  /** @throws RegistryError ENOENT without the key or the value. */
  withoutValue(path: string, name: string): Hive {
    const id = this.requireKey(path);
    const folded = foldName(name);
    if (!this.keys.get(id)?.values.has(folded)) {
      throw new RegistryError('ENOENT', `no value ${formatHiveName(name)} in ${path}`);
    }
    return this.edited(this.lines.filter((line) => line.value?.key !== id || line.value.name !== folded));
  }

  /** Creates the last component; the hive itself when the key exists. @throws RegistryError ENOENT without its parent. */
  withKey(path: string): Hive {
    const components = splitKeyPath(path);
    if (this.keys.has(foldPath(components))) return this;
    const parent = components.slice(0, -1);
    if (parent.length > 0 && !this.keys.has(foldPath(parent))) {
      throw new RegistryError('ENOENT', `no key ${parent.join('\\')}`);
    }
    return this.appended([sectionHeader(path)]);
  }

  private requireKey(path: string): string {
    const id = foldPath(splitKeyPath(path));
    if (!this.keys.has(id)) throw new RegistryError('ENOENT', `no key ${path}`);
    return id;
  }

  private appended(texts: readonly string[]): Hive {
    return texts.reduce<Hive>((hive, text) => hive.inserted(hive.lines.length, text), this);
  }

  private inserted(at: number, text: string): Hive {
    const end = this.lines[0]?.end || '\n';
    const before = this.lines.slice(0, at);
    const last = before.at(-1);
    if (last !== undefined && last.end === '') before[before.length - 1] = { ...last, end };
    return this.edited([...before, { text, end }, ...this.lines.slice(at)]);
  }

  /** Reading the result again proves that the edit left a valid file. */
  private edited(lines: readonly Line[]): Hive {
    return Hive.parse(lines.map((line) => line.text + line.end).join(''), this.file);
  }
}

function sectionHeader(path: string): string {
  const components = splitKeyPath(path);
  if (/[\]\r\n]/.test(path))
    throw new RegistryError('EINVAL', 'a hive file cannot express a key name with ] or a line end');
  return `[${components.join('\\')}]`;
}

function ensureKey(keys: Map<string, MutableKey>, path: readonly string[]): MutableKey {
  let key: MutableKey | undefined;
  for (let depth = 1; depth <= path.length; depth++) {
    const components = path.slice(0, depth);
    const id = foldPath(components);
    key = keys.get(id);
    if (key === undefined) {
      key = { path: components, values: new Map() };
      keys.set(id, key);
    }
  }
  if (key === undefined) throw new RegistryError('EINVAL', 'the key path is empty');
  return key;
}

function guard<T>(work: () => T, fail: (reason: string, offset: number) => never, offset = 0): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof HiveSyntaxError) return fail(error.message, error.offset);
    if (error instanceof RegistryError) return fail(error.message, offset);
    throw error;
  }
}

/** 1-based, in characters. */
function columnOf(text: string, offset: number): number {
  return Array.from(text.slice(0, offset)).length + 1;
}

function splitLines(text: string): { readonly text: string; readonly end: string }[] {
  return Array.from(text.matchAll(/([^\r\n]*)(\r\n|\n|\r|$)/g), (match) => ({
    text: match[1] ?? '',
    end: match[2] ?? '',
  })).filter((line) => line.text !== '' || line.end !== '');
}

function decode(bytes: Uint8Array, file: string): string {
  if (bytes.length > MAX_HIVE_BYTES) {
    throw new HiveParseError(file, 1, 1, `the file exceeds ${MAX_HIVE_BYTES} bytes`);
  }
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  try {
    return decoder.decode(bytes);
  } catch {
    return locateBadBytes(bytes, file, (part) => decoder.decode(part));
  }
}

function locateBadBytes(bytes: Uint8Array, file: string, decode: (part: Uint8Array) => string): never {
  let line = 1;
  for (let start = 0; start < bytes.length; line++) {
    const newline = bytes.indexOf(0x0a, start);
    const end = newline < 0 ? bytes.length : newline + 1;
    const slice = bytes.subarray(start, end);
    try {
      decode(slice);
    } catch {
      // A lenient decoder puts a replacement character where the strict one stopped.
      const offset = new TextDecoder('utf-8', { ignoreBOM: true }).decode(slice).indexOf('\ufffd');
      throw new HiveParseError(file, line, Math.max(0, offset) + 1, 'expected UTF-8');
    }
    start = end;
  }
  throw new HiveParseError(file, line, 1, 'expected UTF-8');
}
