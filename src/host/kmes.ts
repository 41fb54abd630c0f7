/**
 * The Kmes port: event rings of the kernel or of ring files that a producer such as kmesd keeps
 * (HOST-1, HOST-51, HOST-73). A source is plain data, so it can be handed to another thread.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { native, type RingInfo } from '../native/addon.js';
import { messageOf } from './errorMessage.js';
import { formatGuid, guidsEqual, parseGuid } from './guid.js';

/** Where rings come from. */
export type KmesSource =
  | { readonly kind: 'kernel' }
  /** A directory of `cpu-NNNN.ring` files, one per CPU from 0000 up. */
  | { readonly kind: 'embedded'; readonly directory: string };

/** A ring source eventd cannot start with; the message is fit for the operator. */
export class KmesError extends Error {
  override readonly name = 'KmesError';

  constructor(
    readonly code: 'ERR_KMES_BOOT' | 'ERR_KMES_RINGS' | 'ERR_KMES_ATTACH',
    message: string,
  ) {
    super(message);
  }
}

/** Text GUID of the boot the rings belong to. */
export const BOOT_ID_FILE = 'boot-id';

const RING_NAME = /^cpu-([0-9]{4})\.ring$/;
const MAX_CPUS = 10000;

/** `cpu-0007.ring` */
export function ringFileName(cpu: number): string {
  return `cpu-${String(cpu).padStart(4, '0')}.ring`;
}

/**
 * Checks a source before the first attach. For ring files: the directory belongs to this boot, holds
 * at least one ring and has no hole in its numbering.
 *
 * @param bootId stored (mixed-endian) bytes of the current boot ID
 * @throws KmesError
 */
export function checkKmesSource(source: KmesSource, bootId: Uint8Array): void {
  if (source.kind === 'kernel') return;
  checkBootId(source, bootId);
  let names: string[];
  try {
    names = readdirSync(source.directory);
  } catch (error) {
    throw new KmesError('ERR_KMES_RINGS', `cannot read the ring directory: ${messageOf(error)}`);
  }
  const cpus = names.flatMap((name) => RING_NAME.exec(name)?.[1] ?? []).map(Number);
  cpus.sort((a, b) => a - b);
  if (cpus.length === 0) {
    throw new KmesError(
      'ERR_KMES_RINGS',
      `${source.directory} holds no ring file such as ${ringFileName(0)}`,
    );
  }
  const hole = cpus.findIndex((cpu, index) => cpu !== index);
  if (hole >= 0) {
    const present = ringFileName(cpus[hole] ?? 0);
    throw new KmesError(
      'ERR_KMES_RINGS',
      `${join(source.directory, ringFileName(hole))} is missing although ${present} exists`,
    );
  }
}

/** A producer that discards rings writes its boot's ID before it makes new ones: so look after attaching. */
function checkBootId(source: KmesSource, bootId: Uint8Array): void {
  if (source.kind === 'kernel') return;
  const { directory } = source;
  const file = join(directory, BOOT_ID_FILE);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return;
    throw new KmesError('ERR_KMES_RINGS', `cannot read the boot ID of the rings: ${messageOf(error)}`);
  }
  let found: Uint8Array;
  try {
    found = parseGuid(text.trim());
  } catch (error) {
    throw new KmesError('ERR_KMES_BOOT', `${file}: ${messageOf(error)}`);
  }
  if (!guidsEqual(found, bootId)) {
    throw new KmesError(
      'ERR_KMES_BOOT',
      `the rings in ${directory} belong to boot ${formatGuid(found)}, but this is boot ${formatGuid(bootId)}`,
    );
  }
}

/**
 * Attaches one CPU's ring; null = there is no such CPU (KMES-89, KMES-90).
 *
 * @throws KmesError for any other failure (LIFE-133)
 */
export function tryAttachRing(source: KmesSource, cpu: number): RingInfo | null {
  return source.kind === 'kernel' ? attachKernelRing(cpu) : attachRingFile(source.directory, cpu);
}

/**
 * Attaches the ring of a CPU that is known to exist, for example after its ring was replaced.
 *
 * @param bootId stored (mixed-endian) bytes of the current boot ID
 * @throws KmesError also when there is no such CPU; `ERR_KMES_BOOT` for a ring of another boot, whose
 *   sequences begin anew (HOST-75)
 */
export function attachRing(source: KmesSource, cpu: number, bootId: Uint8Array): RingInfo {
  const info = tryAttachRing(source, cpu);
  if (info === null) throw new KmesError('ERR_KMES_ATTACH', `there is no event ring for CPU ${cpu}`);
  try {
    checkBootId(source, bootId);
  } catch (error) {
    native.ringClose(info.ring);
    throw error;
  }
  return info;
}

function attachKernelRing(cpu: number): RingInfo | null {
  try {
    return native.ringAttachKernel(cpu);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'EINVAL') return null;
    const hint = code === 'EPERM' ? '; the token needs SeSecurityPrivilege, enabled' : '';
    throw new KmesError('ERR_KMES_ATTACH', `kmes_attach(${cpu}) failed: ${messageOf(error)}${hint}`);
  }
}

function attachRingFile(directory: string, cpu: number): RingInfo | null {
  const path = join(directory, ringFileName(cpu));
  let info: RingInfo;
  try {
    info = native.ringOpen(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null;
    throw new KmesError('ERR_KMES_ATTACH', `cannot attach ${path}: ${messageOf(error)}`);
  }
  if (info.cpu !== cpu) {
    native.ringClose(info.ring);
    throw new KmesError('ERR_KMES_ATTACH', `${path} says it is the ring of CPU ${info.cpu}`);
  }
  return info;
}

/**
 * Attaches CPU 0, 1, 2, ... until there is none (LIFE-112). On failure nothing stays attached.
 *
 * @param bootId stored (mixed-endian) bytes of the current boot ID
 * @throws KmesError also when there is not even CPU 0 (LIFE-133), or when the rings are of another boot
 */
export function attachAllRings(source: KmesSource, bootId: Uint8Array): RingInfo[] {
  const rings: RingInfo[] = [];
  try {
    for (let cpu = 0; cpu < MAX_CPUS; cpu++) {
      const info = tryAttachRing(source, cpu);
      if (info === null) break;
      rings.push(info);
    }
    checkBootId(source, bootId);
  } catch (error) {
    for (const { ring } of rings) native.ringClose(ring);
    throw error;
  }
  if (rings.length === 0) throw new KmesError('ERR_KMES_RINGS', 'there is no event ring for CPU 0');
  return rings;
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}
