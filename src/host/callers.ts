/** Who is behind an accepted connection, by the adapter that was chosen at start (HOST-1, HOST-2). */
import type { Caller } from '../access/caller.js';
import { type AuditSink, EmbeddedCaller } from '../access/embeddedCaller.js';
import { native } from '../native/addon.js';
import { KacsCaller } from './kacs.js';
import { tokenFromCredentials } from './peerIdentity.js';
import type { Adapter } from './platform.js';

export interface CallerOptions {
  readonly adapter: Adapter;
  /** Groups whose members are administrators besides root, as of now (HOST-67). */
  readonly adminGids: () => ReadonlySet<number>;
  /** Where SACLs are answered on a stand-in; null = nowhere. The Peios kernel does this itself. */
  readonly sink: AuditSink | null;
}

/**
 * How to tell callers from their sockets. The identity is that of the moment of connect, whatever becomes
 * of the process (HOST-65, HOST-69).
 *
 * @returns a function that throws when the peer cannot be identified, which denies its query (ACL-27)
 */
export function callerSource(options: CallerOptions): (socket: number) => Caller {
  if (options.adapter === 'peios') return (socket) => KacsCaller.of(socket);
  return (socket) => {
    const token = tokenFromCredentials(native.peerCredentials(socket), options.adminGids());
    return new EmbeddedCaller(token, options.sink);
  };
}
