/** Reading and atomically replacing a hive file on disk (HOST-60, HOST-62). */
import { randomBytes } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { type FileHandle, open, realpath, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { native } from '../native/addon.js';
import { Hive, MAX_HIVE_BYTES } from './hive.js';
import { RegistryError } from './registryError.js';

const LOCK_DEADLINE_MS = 5000;
const LOCK_RETRY_MS = 20;
const GROUP_OR_OTHERS_WRITE = 0o022n;
const STICKY = 0o1000n;

/** Tells one state of a file from the next, also where change notifications get lost. */
export interface FileSignature {
  readonly device: bigint;
  readonly inode: bigint;
  readonly size: bigint;
  readonly modifiedNs: bigint;
  readonly changedNs: bigint;
}

/** A hive as it was read, with the signature of the file at that moment. */
export interface LoadedHive {
  readonly hive: Hive;
  readonly signature: FileSignature;
}

/** The hive file must not be trusted (HOST-62). */
export class UnsafeHiveError extends Error {
  readonly code = 'ERR_HIVE_UNSAFE';
  override readonly name = 'UnsafeHiveError';
}

function signatureOf(stats: BigIntStats): FileSignature {
  return {
    device: stats.dev,
    inode: stats.ino,
    size: stats.size,
    modifiedNs: stats.mtimeNs,
    changedNs: stats.ctimeNs,
  };
}

export function sameSignature(a: FileSignature, b: FileSignature): boolean {
  return (
    a.inode === b.inode &&
    a.device === b.device &&
    a.size === b.size &&
    a.modifiedNs === b.modifiedNs &&
    a.changedNs === b.changedNs
  );
}

/** The file's signature now, or null when it is missing. */
export async function hiveSignature(file: string): Promise<FileSignature | null> {
  try {
    return signatureOf(await stat(file, { bigint: true }));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return null;
    throw error;
  }
}

function errnoOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** Why this file or directory could be changed by somebody else, or null. */
export function ownershipProblem(
  what: string,
  stats: { readonly uid: bigint; readonly mode: bigint },
  ownUid: number,
  stickyIsSafe: boolean,
): string | null {
  if (stats.uid !== 0n && stats.uid !== BigInt(ownUid)) {
    return `${what} belongs to uid ${stats.uid}; it must belong to root or to uid ${ownUid}`;
  }
  if ((stats.mode & GROUP_OR_OTHERS_WRITE) !== 0n && !(stickyIsSafe && (stats.mode & STICKY) !== 0n)) {
    const mode = (stats.mode & 0o7777n).toString(8).padStart(4, '0');
    return `${what} is writable by group or others (mode ${mode})`;
  }
  return null;
}

/**
 * Opens, checks and parses a hive file.
 *
 * @throws UnsafeHiveError when its owner or mode, or its directory's, lets others change it
 * @throws HiveParseError for a mistake inside
 */
export async function loadHive(file: string): Promise<LoadedHive> {
  const handle = await open(file, 'r');
  try {
    await refuseUnsafe(file, handle);
    return await readHive(file, handle);
  } finally {
    await handle.close();
  }
}

/** Reads a hive file to show it, whoever owns it. @throws HiveParseError */
export async function inspectHive(file: string): Promise<Hive> {
  const handle = await open(file, 'r');
  try {
    return (await readHive(file, handle)).hive;
  } finally {
    await handle.close();
  }
}

async function refuseUnsafe(file: string, handle: FileHandle): Promise<void> {
  const ownUid = process.geteuid?.() ?? 0;
  let problem = ownershipProblem(file, await handle.stat({ bigint: true }), ownUid, false);
  // Behind a symbolic link, whoever can replace the link can replace the file.
  for (const directory of new Set([dirname(file), dirname(await realpath(file))])) {
    problem ??= ownershipProblem(
      `its directory ${directory}`,
      await stat(directory, { bigint: true }),
      ownUid,
      true,
    );
  }
  if (problem !== null) {
    throw new UnsafeHiveError(`${file} holds the security policy and cannot be trusted: ${problem}`);
  }
}

async function readHive(file: string, handle: FileHandle): Promise<LoadedHive> {
  const before = await handle.stat({ bigint: true });
  if (!before.isFile()) throw new RegistryError('EINVAL', `${file} is no regular file`);
  if (before.size > BigInt(MAX_HIVE_BYTES)) {
    throw new RegistryError('EINVAL', `${file} exceeds ${MAX_HIVE_BYTES} bytes`);
  }
  const hive = Hive.parse(await handle.readFile(), file);
  return { hive, signature: signatureOf(before) };
}

/**
 * Reads the file under its advisory lock, lets `edit` change it and puts the result in its place in one
 * step. Nothing is written when `edit` returns the hive it was given.
 *
 * @throws RegistryError EAGAIN when another writer holds the lock for more than five seconds
 */
export async function editHive(file: string, edit: (hive: Hive) => Hive): Promise<Hive> {
  const target = await realpath(file);
  const handle = await openLocked(target);
  try {
    const { hive } = await readHive(file, handle);
    const edited = edit(hive);
    if (edited !== hive) await replace(target, edited.toString(), await handle.stat());
    return edited;
  } finally {
    await handle.close();
  }
}

/**
 * The hive, locked until the handle is closed. The lock is not on the directory, though that would outlive
 * the file: it may be the one of the event store, which eventd holds for as long as it runs (storeLock.ts),
 * and that lock has to stay where an eventd of any other version looks for it.
 */
async function openLocked(target: string): Promise<FileHandle> {
  const deadline = performance.now() + LOCK_DEADLINE_MS;
  for (;;) {
    const handle = await open(target, 'r');
    let isOurs = false;
    try {
      // Whoever held the lock has put another file in the place of this one.
      isOurs = native.lockFile(handle.fd) && (await isAt(target, handle));
    } finally {
      if (!isOurs) await handle.close();
    }
    if (isOurs) return handle;
    if (performance.now() > deadline) {
      throw new RegistryError('EAGAIN', `another program holds the lock on ${target}`);
    }
    await delay(LOCK_RETRY_MS);
  }
}

async function isAt(path: string, handle: FileHandle): Promise<boolean> {
  const [there, here] = [await stat(path, { bigint: true }), await handle.stat({ bigint: true })];
  return there.dev === here.dev && there.ino === here.ino;
}

async function replace(
  target: string,
  text: string,
  old: { readonly mode: number; readonly uid: number; readonly gid: number },
): Promise<void> {
  const temporary = join(dirname(target), `.${basename(target)}.${randomBytes(6).toString('hex')}.tmp`);
  const handle = await open(temporary, 'wx', 0o600);
  try {
    try {
      await handle.writeFile(text);
      const fresh = await handle.stat();
      if (fresh.uid !== old.uid || fresh.gid !== old.gid) await handle.chown(old.uid, old.gid);
      await handle.chmod(old.mode & 0o7777);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, target);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  await syncDirectory(dirname(target));
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
