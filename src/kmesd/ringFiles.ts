import {
  chmodSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { formatGuid, guidsEqual, parseGuid } from '../host/guid.js';
import { BOOT_ID_FILE, ringFileName } from '../host/kmes.js';
import type { NativeAddon } from '../native/addon.js';
import { errnoOf, KmesdError, reasonOf } from './failure.js';
import type { Report } from './report.js';

/** File names of a ring directory. */
export const LOCK_FILE = 'kmesd.lock';
export const EMIT_SOCKET = 'emit.sock';
export const KMSG_CURSOR_FILE = 'kmsg-cursor';

const RING_NAME = /^cpu-([0-9]{4})\.ring$/;
/** What a writer that was killed while creating or replacing a ring, or the boot ID, leaves behind. */
const UNFINISHED = /^(\.?cpu-[0-9]{4}\.ring.+|boot-id\.new)$/;

/** Path of the ring of one CPU. */
export function ringPath(directory: string, cpu: number): string {
  return join(directory, ringFileName(cpu));
}

/** The directory of one kmesd, held under its lock until `release`. */
export interface RingDirectory {
  readonly path: string;
  /** CPU numbers that have a ring of this boot, without holes from 0. */
  readonly existing: readonly number[];
  release(): void;
}

/**
 * Takes the ring directory: creates it, locks it against a second kmesd, and settles which boot it
 * belongs to. Rings of another boot are discarded (HOST-75); the boot ID is written only after
 * they are gone, so that a crash in between leaves the old ID standing and the discard is repeated.
 *
 * Throws KmesdError when the directory cannot be used safely.
 */
export function claimRingDirectory(
  native: Pick<NativeAddon, 'lockFile'>,
  path: string,
  bootId: Uint8Array,
  report: Report,
): RingDirectory {
  makeDirectory(path);
  const lock = openLock(path);
  try {
    if (!native.lockFile(lock)) throw new KmesdError(`${path}: another kmesd serves this directory`);
    for (const name of readdirSync(path).filter((name) => UNFINISHED.test(name)))
      unlinkSync(join(path, name));
    settleBoot(path, bootId, report);
    return { path, existing: listRings(path), release: () => closeSync(lock) };
  } catch (error) {
    closeSync(lock);
    throw error instanceof KmesdError ? error : new KmesdError(`${path}: ${reasonOf(error)}`);
  }
}

function makeDirectory(path: string): void {
  try {
    const created = mkdirSync(path, { recursive: true, mode: 0o755 });
    // The umask may have hidden the emit socket from the members of the admin groups.
    if (created !== undefined) chmodSync(path, 0o755);
    const mode = statSync(path).mode;
    if ((mode & 0o002) !== 0 && (mode & 0o1000) === 0) {
      throw new KmesdError(`${path}: writable by everybody; anyone could replace the rings`);
    }
  } catch (error) {
    throw error instanceof KmesdError ? error : new KmesdError(`${path}: ${reasonOf(error)}`);
  }
}

function openLock(path: string): number {
  try {
    return openSync(join(path, LOCK_FILE), 'a', 0o600);
  } catch (error) {
    throw new KmesdError(`${path}: ${reasonOf(error)}`);
  }
}

function settleBoot(path: string, bootId: Uint8Array, report: Report): void {
  const tagged = readBootId(path);
  if (tagged !== null && guidsEqual(tagged, bootId)) return;
  const rings = ringNames(path);
  if (tagged !== null) {
    if (rings.length > 0) report.info(`discarding ${rings.length} ring(s) of boot ${formatGuid(tagged)}`);
    // Downwards, so that a crash never leaves a hole below a ring.
    for (const name of rings.reverse()) unlinkSync(join(path, name));
    removeIfThere(join(path, KMSG_CURSOR_FILE));
  } else if (rings.length > 0) {
    // Starting anew under a boot ID that may be theirs would repeat sequence numbers.
    report.warn(
      `${path}: ${rings.length} ring(s) without a ${BOOT_ID_FILE} file are taken to be of this boot`,
    );
  }
  const file = join(path, BOOT_ID_FILE);
  writeFileSync(`${file}.new`, `${formatGuid(bootId)}\n`, { mode: 0o644 });
  renameSync(`${file}.new`, file);
}

function readBootId(path: string): Uint8Array | null {
  const file = join(path, BOOT_ID_FILE);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
  try {
    return parseGuid(text.trim());
  } catch {
    throw new KmesdError(`${file}: holds no GUID; remove the directory's rings and this file to start anew`);
  }
}

function ringNames(path: string): string[] {
  return readdirSync(path)
    .filter((name) => RING_NAME.test(name))
    .sort();
}

function listRings(path: string): number[] {
  const cpus = ringNames(path).map((name) => Number(RING_NAME.exec(name)?.[1]));
  for (const [expected, cpu] of cpus.entries()) {
    if (cpu !== expected) {
      throw new KmesdError(
        `${ringPath(path, expected)}: missing although cpu ${cpu} has a ring; recreating it would repeat sequence numbers of this boot`,
      );
    }
  }
  return cpus;
}

function removeIfThere(file: string): void {
  try {
    unlinkSync(file);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}
