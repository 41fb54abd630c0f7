/** The AccessCheck port on Peios: callers are tokens of the kernel, verdicts its own (ACL-2, ACL-26). */
import { closeSync } from 'node:fs';
import type { Caller, CheckRequest } from '../access/caller.js';
import { encodeClaims } from '../access/claims.js';
import type { ObjectNode } from '../access/objectTree.js';
import { EVENTD_MAPPING, EVENTD_READ } from '../access/rights.js';
import { type NativeAddon, native } from '../native/addon.js';

type KacsCalls = Pick<NativeAddon, 'kacsOpenPeerToken' | 'kacsAccessCheck'>;

/** Bytes of one entry of an object type list: u16 level, u16 zero, GUID. */
const ENTRY_BYTES = 20;

/** A token descriptor the kernel made at connect. It goes with the connection. */
export class KacsCaller implements Caller {
  #token: number | null;
  #running = 0;
  #closing = false;

  /**
   * Takes the token of the peer of an accepted socket (ACL-26). Quick and without an audit record, so it
   * needs no other thread; and only here is it certain that the descriptor is still that socket.
   *
   * @throws an Error with an errno name as `code`; the query is denied then (ACL-27)
   */
  static of(socket: number, calls: KacsCalls = native): KacsCaller {
    return new KacsCaller(calls.kacsOpenPeerToken(socket), calls);
  }

  private constructor(
    token: number,
    private readonly calls: KacsCalls,
  ) {
    this.#token = token;
  }

  async check(request: CheckRequest): Promise<readonly boolean[]> {
    if (this.#token === null || this.#closing) throw new Error('the connection has ended');
    this.#running++;
    try {
      return await this.calls.kacsAccessCheck({
        token: this.#token,
        descriptor: request.descriptor.bytes,
        desired: EVENTD_READ,
        mapping: EVENTD_MAPPING,
        nodes: encodeNodes(request.nodes ?? []),
        claims: encodeClaims(request.localClaims),
        context: Buffer.from(request.auditContext, 'utf8'),
      });
    } finally {
      this.#running--;
      if (this.#closing) this.close();
    }
  }

  /** The descriptor is closed when no check uses it any more: its number could be another token's by then. */
  close(): void {
    this.#closing = true;
    if (this.#token === null || this.#running > 0) return;
    closeSync(this.#token);
    this.#token = null;
  }
}

/** An object type list as the kernel reads it. */
export function encodeNodes(nodes: readonly ObjectNode[]): Uint8Array {
  const bytes = new Uint8Array(ENTRY_BYTES * nodes.length);
  const view = new DataView(bytes.buffer);
  for (const [index, { level, guid }] of nodes.entries()) {
    view.setUint16(ENTRY_BYTES * index, level, true);
    bytes.set(guid, ENTRY_BYTES * index + 4);
  }
  return bytes;
}
