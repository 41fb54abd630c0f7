/** The native half of the LCS adapter (HOST-32..42). */
import type { RegistryValue } from '../registry/value.js';

/** One watch record; the path runs from the watched key down to the changed one. */
export interface LcsRecord {
  /** 1 value set, 2 value deleted, 3 subkey created, 4 subkey deleted, 5 SD changed, 6 key deleted, 7 overflow. */
  readonly type: number;
  readonly path: readonly string[];
  readonly name: string;
}

/**
 * Calls on keys by their absolute path. What returns a promise works on a thread of its own, and rejects
 * with an errno name as `code`: the kernel's, EPROTO for an answer that contradicts itself, E2BIG for one
 * beyond 64 MiB, EAGAIN for one that kept on growing.
 */
export interface LcsCalls {
  /** All values in one consistent snapshot, by one batch call (HOST-37). */
  lcsReadValues(key: string): Promise<readonly RegistryValue[]>;
  /** The name comes back as it was given. */
  lcsReadValue(key: string, name: string): Promise<RegistryValue>;
  /** Names of the direct subkeys; one may be there twice, or missing, while keys come and go. */
  lcsListSubkeys(key: string): Promise<readonly string[]>;
  lcsSetValue(key: string, name: string, type: number, data: Uint8Array): Promise<void>;
  lcsDeleteValue(key: string, name: string): Promise<void>;
  /** Creates the last component of the path; false = it was there. */
  lcsCreateKey(key: string): Promise<boolean>;
  /** A descriptor that is readable while records of the subtree wait (HOST-44); the caller closes it. */
  lcsWatch(key: string): Promise<number>;
  /**
   * Takes waiting records; none = there are none. Never blocks. Records that make no sense are one
   * overflow. Throws when the watch is over.
   */
  lcsReadWatch(fd: number): readonly LcsRecord[];
}
