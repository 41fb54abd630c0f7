/** The audit records of eventd's own access checks: on a stand-in for KACS they are eventd's to write (ACL-85). */
import { RingAuditSink } from '../../src/host/accessAuditSink.js';
import type { KmesSource } from '../../src/host/kmes.js';
import type { Adapter } from '../../src/host/platform.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { IdentityStamps, readProcessStat } from '../../src/kmesd/identity.js';

/**
 * Where they go; null where the kernel writes them.
 * @param bootId 16 bytes
 */
export function ownAudits(
  access: Adapter,
  kmes: KmesSource,
  bootId: Uint8Array,
  log: ProcessLog,
): RingAuditSink | null {
  if (access === 'peios' || kmes.kind === 'kernel') return null;
  const { pid } = process;
  const own = readProcessStat(pid);
  const identity = new IdentityStamps(bootId).of(
    process.geteuid?.() ?? 0,
    own === null ? null : { pid, startTime: own.startTime },
  );
  return new RingAuditSink(kmes.directory, identity, log);
}
