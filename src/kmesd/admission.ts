import { tokenFromCredentials } from '../host/peerIdentity.js';
import type { PeerCredentials } from '../native/addon.js';
import { type IdentityStamps, type ProcessStat, processName, readProcessStat } from './identity.js';
import type { SocketCaller } from './requestHandler.js';

/** Decides once per connection who the caller is and what it may do (HOST-69, HOST-76, HOST-77). */
export class Admission {
  constructor(
    private readonly adminGids: ReadonlySet<number>,
    private readonly stamps: IdentityStamps,
    private readonly processStat: (pid: number) => ProcessStat | null = readProcessStat,
  ) {}

  /** `credentials` are those of the moment of connecting. */
  caller(credentials: PeerCredentials): SocketCaller {
    const { uid, pid } = credentials;
    const stat = this.processStat(pid);
    const process = stat === null ? null : { pid, startTime: stat.startTime };
    return {
      uid,
      mayEmit: tokenFromCredentials(credentials, this.adminGids).isSystemOrAdministrator,
      rateExempt: uid === 0,
      process: process === null ? null : processName(process),
      identity: this.stamps.of(uid, process),
    };
  }
}
