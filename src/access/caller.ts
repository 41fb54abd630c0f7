/** The AccessCheck port as readers of data meet it: a caller, who can be checked (ACL-2, HOST-1). */
import type { NamedClaim } from './claims.js';
import { type CompiledDescriptor, compileDescriptor } from './compiledDescriptor.js';
import type { ObjectNode } from './objectTree.js';

/** A descriptor as stored, and compiled. */
export interface StoredDescriptor {
  readonly bytes: Uint8Array;
  readonly compiled: CompiledDescriptor;
}

/** @throws SecurityDescriptorError for malformed bytes */
export function storedDescriptor(bytes: Uint8Array): StoredDescriptor {
  return { bytes, compiled: compileDescriptor(bytes) };
}

/** Every check asks for EVENTD_READ under eventd's generic mapping (ACL-15, ACL-16). */
export interface CheckRequest {
  readonly descriptor: StoredDescriptor;
  /** Null: one verdict for the whole object. */
  readonly nodes: readonly ObjectNode[] | null;
  /** What an audit record says was read (ACL-53). */
  readonly auditContext: string;
  /** Claims of this check for conditional ACEs (ACL-55). */
  readonly localClaims: readonly NamedClaim[];
}

/** Who opened a connection, as it was at connect (ACL-26, HOST-69). */
export interface Caller {
  /**
   * Whether EVENTD_READ is granted, per node; one element where no list was given.
   *
   * Rejects when the check cannot be made at all; that denies (ACL-40).
   */
  check(request: CheckRequest): Promise<readonly boolean[]>;
  /** Gives up what the caller holds. Safe twice. */
  close(): void;
}

/** Longest audit context in bytes (ACL-53). */
export const MAX_AUDIT_CONTEXT_BYTES = 4096;

/** Cuts a text to so many bytes of UTF-8, on a character boundary. */
export function cutUtf8(text: string, maxBytes: number): string {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length <= maxBytes) return text;
  let end = maxBytes;
  // Bytes 10xxxxxx continue a character.
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return bytes.toString('utf8', 0, end);
}
