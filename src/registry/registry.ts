/** The Registry port (HOST-1, HOST-57): what eventd asks of LCS or of its stand-in. */
import type { RegistryData, RegistryValue } from './value.js';

/** What changed below a watched key (HOST-42). Paths run from the watched key down to the changed key. */
export type RegistryEvent =
  | { readonly type: 'valueSet' | 'valueDeleted'; readonly path: readonly string[]; readonly name: string }
  | {
      readonly type: 'subkeyCreated' | 'subkeyDeleted';
      readonly path: readonly string[];
      readonly name: string;
    }
  /** The watched key itself is gone; this watch delivers nothing more (HOST-46). */
  | { readonly type: 'keyDeleted' }
  /** Events were lost, or the registry is back after a failure: re-read everything (HOST-43). */
  | { readonly type: 'overflow' };

/** Events a watch holds before the oldest are dropped for an overflow (HOST-63). */
export const WATCH_QUEUE_LIMIT = 256;

/** A subtree watch. */
export interface RegistryWatch {
  /** Takes everything that is queued, oldest first. */
  take(): readonly RegistryEvent[];
  /** Ends the watch. Safe twice. */
  close(): void;
}

/** Whether the registry behind the port can be read right now. */
export type RegistryAvailability =
  | { readonly available: true }
  | { readonly available: false; readonly reason: string };

/**
 * Key paths are backslash separated and start with a hive (`Machine\System\eventd`). Every failure
 * is a RegistryError with an errno name as `code`.
 */
export interface Registry {
  /** All values of a key in one consistent snapshot, in no particular order. ENOENT: no such key. */
  readValues(key: string): Promise<readonly RegistryValue[]>;
  /** One value; the empty name is the unnamed value. ENOENT: no such key or value. */
  readValue(key: string, name: string): Promise<RegistryValue>;
  /** Names of the direct subkeys. ENOENT: no such key. */
  listSubkeys(key: string): Promise<readonly string[]>;
  /**
   * Sets a value. ENOENT: no such key; ENOSPC: the value is too large; EAGAIN: `onlyIfAbsent` and
   * the value exists (ACL-14).
   */
  setValue(
    key: string,
    name: string,
    data: RegistryData,
    options?: { readonly onlyIfAbsent?: boolean },
  ): Promise<void>;
  /** ENOENT: no such key or value. */
  deleteValue(key: string, name: string): Promise<void>;
  /** Creates the last component of the path. ENOENT: its parent does not exist (HOST-32). */
  createKey(key: string): Promise<'created' | 'existed'>;
  /**
   * Arms a watch on a key and everything below it; what is read after that is not older than what the
   * watch tells (HOST-45). `notify` runs whenever the queue turns non-empty. ENOENT: no such key.
   */
  watch(key: string, notify: () => void): Promise<RegistryWatch>;
  /** Makes changes visible now instead of at the next notification; EIO while unavailable. */
  refresh(): Promise<void>;
  /** Tells the listener about every change between available and unavailable; returns the way to stop. */
  onAvailability(listener: (state: RegistryAvailability) => void): () => void;
  /** Ends all watches. Safe twice. */
  close(): Promise<void>;
}
