/** GUIDs of fields and of the roots of object type lists (ACL-17..20, CFG-82..84). */
import { nameGuid, parseGuid } from '../host/guid.js';

/** Namespace of field GUIDs; a field's GUID is the version 5 GUID of its name in it (CFG-82). */
const FIELD_NAMESPACE = parseGuid('e7d3a1b0-5c2f-4e8a-9b1d-0a6f3c8e2d4b');

/** Names come from payloads, so the memory they may take is bounded. */
const MAX_REMEMBERED = 16384;
const MAX_REMEMBERED_NAME = 256;

const remembered = new Map<string, Uint8Array>();

/**
 * GUID of a field, mixed-endian: computed, never a table (ACL-17). Case matters.
 *
 * @param name column, dotted payload path, or label key
 */
export function fieldGuid(name: string): Uint8Array {
  const known = remembered.get(name);
  if (known !== undefined) return known;
  const guid = nameGuid(FIELD_NAMESPACE, name);
  if (name.length <= MAX_REMEMBERED_NAME) {
    if (remembered.size >= MAX_REMEMBERED) remembered.clear();
    remembered.set(name, guid);
  }
  return guid;
}

/** A GUID as a text that compares fast and serves as a key of maps. */
export function guidKey(guid: Uint8Array): string {
  return Buffer.from(guid.buffer, guid.byteOffset, guid.byteLength).toString('latin1');
}
