/** Key paths and names: limits (HOST-27) and case-preserving, case-insensitive comparison (HOST-28). */
import { RegistryError } from './registryError.js';

/** The key that holds eventd's configuration. */
export const EVENTD_KEY = 'Machine\\System\\eventd';
/** The key peinit reads eventd's service definition from. */
export const SERVICE_KEY = 'Machine\\System\\Services\\eventd';
/** The key above `Events`, `Logs` and `Metrics`. */
export const SECURITY_KEY = `${EVENTD_KEY}\\Security`;

export const MAX_NAME_BYTES = 255;
export const MAX_PATH_BYTES = 16383;
export const MAX_VALUE_BYTES = 1024 * 1024;

const foldedCharacters = new Map<string, string>();

/**
 * Folds one non-ASCII character to the representative of its simple case folding class. JavaScript
 * offers that folding only inside `/iu` patterns, so a candidate counts only if such a pattern agrees.
 */
function foldCharacter(character: string): string {
  let folded = foldedCharacters.get(character);
  if (folded === undefined) {
    const code = character.codePointAt(0) ?? 0;
    const isSurrogate = code >= 0xd800 && code <= 0xdfff;
    const same = new RegExp(`^\\u{${code.toString(16)}}$`, 'iu');
    const candidates = isSurrogate ? [] : [character.toUpperCase().toLowerCase(), character.toLowerCase()];
    folded = candidates.find((candidate) => same.test(candidate)) ?? character;
    foldedCharacters.set(character, folded);
  }
  return folded;
}

/** The form under which two names that differ only in case are equal (Unicode simple case folding). */
export function foldName(name: string): string {
  let folded = name.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
  if (!/^\p{ASCII}*$/u.test(folded))
    folded = Array.from(folded, (c) => (c < '\x80' ? c : foldCharacter(c))).join('');
  return folded;
}

/**
 * Splits a key path into components; both separators are accepted.
 *
 * @throws RegistryError EINVAL for an empty component or a NUL, ENAMETOOLONG beyond the limits.
 */
export function splitKeyPath(path: string): readonly string[] {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new RegistryError('ENAMETOOLONG', `key path exceeds ${MAX_PATH_BYTES} bytes`);
  }
  const components = path.split(/[\\/]/);
  for (const component of components) {
    if (component === '')
      throw new RegistryError('EINVAL', `key path ${JSON.stringify(path)} has an empty component`);
    checkName(component, 'key name');
  }
  return components;
}

/** @throws RegistryError when a value name holds NUL or is too long. The empty name is legal. */
export function checkValueName(name: string): void {
  checkName(name, 'value name');
}

function checkName(name: string, what: string): void {
  if (name.includes('\0')) throw new RegistryError('EINVAL', `${what} holds a NUL character`);
  if (Buffer.byteLength(name) > MAX_NAME_BYTES) {
    throw new RegistryError('ENAMETOOLONG', `${what} exceeds ${MAX_NAME_BYTES} bytes`);
  }
}

/** Key of a map of keys: the folded components, joined by a character no component can hold. */
export function foldPath(components: readonly string[]): string {
  return foldName(components.join('\\'));
}
