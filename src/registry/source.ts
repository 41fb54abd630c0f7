/** Which registry a program reads: the kernel's, or a hive file (HOST-2, HOST-56). */
import type { WarningLog } from '../host/log.js';
import { type Adapter, choosePlatform } from '../host/platform.js';
import { native } from '../native/addon.js';
import { openEmbeddedRegistry } from './embedded.js';
import { LCS_NAME, LcsRegistry } from './lcs.js';
import type { Registry } from './registry.js';

/** The hive file where nobody names one. */
export const DEFAULT_HIVE = '/etc/eventd/eventd.reg';

export type RegistrySource = { readonly kind: 'lcs' } | { readonly kind: 'hive'; readonly file: string };

/**
 * A file that somebody named is meant, also on Peios.
 *
 * @param file as named on the command line or in the environment; null = nobody did
 * @param adapter what was chosen for LCS
 */
export function registrySource(file: string | null, adapter: Adapter): RegistrySource {
  if (file === null && adapter === 'peios') return { kind: 'lcs' };
  return { kind: 'hive', file: file ?? DEFAULT_HIVE };
}

/** The source that a start of eventd without further options would take. */
export function usualSource(file: string | null): RegistrySource {
  return registrySource(file, choosePlatform('auto', native.probeSyscall).adapters.lcs);
}

/** What a source is called in messages. */
export function sourceName(source: RegistrySource): string {
  return source.kind === 'lcs' ? LCS_NAME : source.file;
}

/** @throws an error with a message fit for the operator when a hive file is missing, unsafe or malformed */
export async function openRegistry(source: RegistrySource, log: WarningLog): Promise<Registry> {
  return source.kind === 'lcs' ? new LcsRegistry(log) : openEmbeddedRegistry(source.file, log);
}
