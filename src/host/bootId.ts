/** The BootId port: which boot this is (HOST-4..6, HOST-52, HOST-53). */

import { readFileSync } from 'node:fs';
import { messageOf } from './errorMessage.js';
import { formatGuid, isNilGuid, parseGuid } from './guid.js';

/** Where Linux keeps a GUID per boot. */
export const KERNEL_BOOT_ID_FILE = '/proc/sys/kernel/random/boot_id';
/** The variable that comes first. */
export const BOOT_ID_VARIABLE = 'PEIOS_BOOT_ID';

/** The boot ID and where it came from. */
export interface BootId {
  /** Stored (mixed-endian) bytes. */
  readonly guid: Uint8Array;
  /** Canonical text, lower case. */
  readonly text: string;
  readonly source: string;
}

/** No usable boot ID: eventd must not start. `code` is always `ERR_BOOT_ID`. */
export class BootIdError extends Error {
  readonly code = 'ERR_BOOT_ID';
  override readonly name = 'BootIdError';
}

/**
 * Reads the boot ID: `PEIOS_BOOT_ID`, else the kernel's. A malformed variable is a failure, never a
 * reason to look elsewhere.
 *
 * @throws BootIdError
 */
export function readBootId(
  environment: Readonly<Record<string, string | undefined>> = process.env,
  kernelFile = KERNEL_BOOT_ID_FILE,
): BootId {
  const variable = environment[BOOT_ID_VARIABLE];
  if (variable !== undefined) return checked(variable, BOOT_ID_VARIABLE);
  let text: string;
  try {
    text = readFileSync(kernelFile, 'latin1');
  } catch (error) {
    const reason = messageOf(error);
    throw new BootIdError(`no boot ID: ${BOOT_ID_VARIABLE} is not set, and ${reason}`);
  }
  return checked(text, kernelFile);
}

function checked(text: string, source: string): BootId {
  let guid: Uint8Array;
  try {
    guid = parseGuid(text.trimEnd());
  } catch (error) {
    throw new BootIdError(`no boot ID: ${source}: ${messageOf(error)}`);
  }
  if (isNilGuid(guid)) throw new BootIdError(`no boot ID: ${source} holds the nil GUID`);
  return { guid, text: formatGuid(guid), source };
}
