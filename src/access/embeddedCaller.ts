/** A caller on ordinary Linux: the embedded engine over a token of Unix credentials (HOST-66, HOST-71). */
import { encode } from '../host/msgpack.js';
import { type AccessCheckResult, type AuditTrigger, accessCheck } from './accessCheck.js';
import type { Caller, CheckRequest } from './caller.js';
import { claimTable } from './claims.js';
import { EVENTD_MAPPING, EVENTD_READ } from './rights.js';
import { formatSid } from './sid.js';
import type { Token } from './token.js';

/** Type of the events that SACLs ask for (ACL-85). */
export const ACCESS_AUDIT_TYPE = 'access-audit';

/** A user may be in 65536 groups, which would not fit into an event. */
const MAX_AUDITED_GROUPS = 1024;

/** Where audit records go: into the event rings, as origin class 2 (ACL-85). Must not throw. */
export interface AuditSink {
  emit(type: string, payload: Uint8Array): void;
}

export class EmbeddedCaller implements Caller {
  constructor(
    readonly token: Token,
    private readonly sink: AuditSink | null,
  ) {}

  async check(request: CheckRequest): Promise<readonly boolean[]> {
    const result = accessCheck({
      token: this.token,
      descriptor: request.descriptor.compiled,
      desired: EVENTD_READ,
      mapping: EVENTD_MAPPING,
      nodes: request.nodes,
      localClaims: claimTable(request.localClaims),
    });
    for (const trigger of result.audits) {
      this.sink?.emit(ACCESS_AUDIT_TYPE, auditPayload(this.token, request.auditContext, result, trigger));
    }
    return result.nodes.map(({ ok }) => ok);
  }

  close(): void {}
}

/** The payload of an `access-audit` event (ACL-85). Success is judged at the root. */
export function auditPayload(
  token: Token,
  context: string,
  result: AccessCheckResult,
  trigger: AuditTrigger,
): Uint8Array {
  const [root] = result.nodes;
  return encode({
    subject: {
      user_sid: formatSid(token.user),
      group_sids: token.groups.slice(0, MAX_AUDITED_GROUPS).map(({ sid }) => formatSid(sid)),
      integrity_level: token.integrityLevel,
      pip_type: token.trust.type,
      pip_trust: token.trust.level,
    },
    object_context: context === '' ? null : Buffer.from(context, 'utf8'),
    requested_access: result.desired,
    granted_access: ((root?.granted ?? 0) & result.desired) >>> 0,
    success: root?.ok ?? false,
    trigger: { kind: trigger.kind, ace: trigger.ace },
    process: { pid: process.pid, name: 'eventd', executable_path: process.execPath },
  });
}
