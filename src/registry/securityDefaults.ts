/** The three security values every read depends on, created where they are missing (ACL-13, CFG-62). */

import { sddlToSecurityDescriptor } from '../access/sddl.js';
import { messageOf } from '../host/errorMessage.js';
import type { WarningLog } from '../host/log.js';
import { EVENTD_KEY, SECURITY_KEY } from './names.js';
import type { Registry } from './registry.js';
import { RegistryError } from './registryError.js';
import { binaryData } from './value.js';

const READ_BY_ADMINISTRATORS = 'O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;BA)';
const READ_BY_EVERY_USER = `${READ_BY_ADMINISTRATORS}(A;;0x1;;;AU)`;

/** The data types with security of their own, and the SDDL of each one's `*`. */
export const SECURITY_DEFAULTS = {
  Events: READ_BY_ADMINISTRATORS,
  Logs: READ_BY_EVERY_USER,
  Metrics: READ_BY_EVERY_USER,
} as const;

export type SecurityNamespace = keyof typeof SECURITY_DEFAULTS;

/**
 * Creates what is absent and never overwrites (ACL-14, CFG-65). A failed write is logged and leaves
 * that data type denied.
 *
 * @returns the data types whose `*` was created
 */
export async function ensureSecurityDefaults(
  registry: Registry,
  log: WarningLog,
): Promise<SecurityNamespace[]> {
  const created: SecurityNamespace[] = [];
  for (const namespace of Object.keys(SECURITY_DEFAULTS) as SecurityNamespace[]) {
    const key = `${SECURITY_KEY}\\${namespace}`;
    try {
      if (await exists(registry, key)) continue;
      for (const parent of [EVENTD_KEY, SECURITY_KEY, key]) await registry.createKey(parent);
      const data = binaryData(sddlToSecurityDescriptor(SECURITY_DEFAULTS[namespace]));
      await registry.setValue(key, '*', data, { onlyIfAbsent: true });
      created.push(namespace);
    } catch (error) {
      if (error instanceof RegistryError && error.code === 'EAGAIN') {
        // Somebody else created it in the meantime; theirs counts. A busy lock looks the same.
        if (await exists(registry, key).catch(() => false)) continue;
      }
      const reason = messageOf(error);
      log.warn(`cannot create the default ${key}\\*: ${reason}; reading this data stays denied`, {
        namespace,
      });
    }
  }
  return created;
}

async function exists(registry: Registry, key: string): Promise<boolean> {
  try {
    await registry.readValue(key, '*');
    return true;
  } catch (error) {
    if (error instanceof RegistryError && error.code === 'ENOENT') return false;
    throw error;
  }
}

/** A registry that holds these descriptors and nothing else. */
export const DEFAULT_SECURITY: Pick<Registry, 'readValues'> = {
  readValues: async (key) =>
    (Object.keys(SECURITY_DEFAULTS) as SecurityNamespace[])
      .filter((namespace) => `${SECURITY_KEY}\\${namespace}` === key)
      .map((namespace) => ({
        name: '*',
        ...binaryData(sddlToSecurityDescriptor(SECURITY_DEFAULTS[namespace])),
      })),
};
