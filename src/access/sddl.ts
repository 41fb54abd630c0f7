/**
 * SDDL, the text form of security descriptors (ACL-91..94), to and from the self-relative bytes.
 * Ours is strict: unknown tags, aliases or trailing text are errors that name their position.
 */
import { messageOf } from '../host/errorMessage.js';
import { formatPlainGuid, parseGuid } from '../host/guid.js';
import { formatClaim, parseClaim } from './sddlClaim.js';
import { formatCondition, parseCondition } from './sddlCondition.js';
import { SddlError } from './sddlError.js';
import { readSid } from './sddlSid.js';
import {
  type Ace,
  type Acl,
  aceShape,
  buildSecurityDescriptor,
  parseSecurityDescriptor,
  SD_CONTROL,
  type SecurityDescriptor,
} from './securityDescriptor.js';
import { formatSidShort } from './sid.js';

export { SddlError } from './sddlError.js';

const ACE_TYPES: ReadonlyMap<string, number> = new Map([
  ['A', 0x00],
  ['D', 0x01],
  ['AU', 0x02],
  ['OA', 0x05],
  ['OD', 0x06],
  ['OU', 0x07],
  ['XA', 0x09],
  ['XD', 0x0a],
  ['ZA', 0x0b],
  ['ZD', 0x0c],
  ['XU', 0x0d],
  ['ZU', 0x0f],
  ['ML', 0x11],
  ['RA', 0x12],
  ['SP', 0x13],
  ['TL', 0x14],
]);

/** In the order they are printed. */
const ACE_FLAGS: ReadonlyMap<string, number> = new Map([
  ['OI', 0x01],
  ['CI', 0x02],
  ['NP', 0x04],
  ['IO', 0x08],
  ['ID', 0x10],
  ['SA', 0x40],
  ['FA', 0x80],
]);

const RIGHTS: ReadonlyMap<string, number> = new Map([
  ['GA', 0x10000000],
  ['GX', 0x20000000],
  ['GW', 0x40000000],
  ['GR', 0x80000000],
  ['SD', 0x00010000],
  ['RC', 0x00020000],
  ['WD', 0x00040000],
  ['WO', 0x00080000],
  ['CC', 0x00000001],
  ['DC', 0x00000002],
]);

const LABEL_RIGHTS: ReadonlyMap<string, number> = new Map([
  ['NR', 0x1],
  ['NW', 0x2],
  ['NX', 0x4],
]);

const TYPE_LABEL = 0x11;
const NO_DACL = 'NO_ACCESS_CONTROL';

interface AclBits {
  readonly protected: number;
  readonly autoInherited: number;
  readonly autoInheritRequested: number;
}

const DACL_BITS: AclBits = {
  protected: SD_CONTROL.daclProtected,
  autoInherited: SD_CONTROL.daclAutoInherited,
  autoInheritRequested: SD_CONTROL.daclAutoInheritRequested,
};

const SACL_BITS: AclBits = {
  protected: SD_CONTROL.saclProtected,
  autoInherited: SD_CONTROL.saclAutoInherited,
  autoInheritRequested: SD_CONTROL.saclAutoInheritRequested,
};

/**
 * Compiles SDDL to the bytes of a self-relative descriptor.
 *
 * @throws SddlError with the 0-based offset of the mistake.
 * @example sddlToSecurityDescriptor('O:SYG:SYD:(A;;0x1;;;SY)')
 */
export function sddlToSecurityDescriptor(text: string): Uint8Array {
  const parsed = new SddlParser(text).parse();
  const bytes = atOffset(0, () => buildSecurityDescriptor(parsed));
  // The binary reader holds rules of its own, such as reserved mask bits.
  atOffset(0, () => parseSecurityDescriptor(bytes));
  return bytes;
}

/**
 * Prints a binary descriptor as SDDL; rights come out in hex.
 *
 * @throws SecurityDescriptorError for malformed bytes, SddlError for what SDDL cannot express.
 */
export function securityDescriptorToSddl(bytes: Uint8Array): string {
  const descriptor = parseSecurityDescriptor(bytes);
  let text = '';
  if (descriptor.owner) text += `O:${formatSidShort(descriptor.owner)}`;
  if (descriptor.group) text += `G:${formatSidShort(descriptor.group)}`;
  if (descriptor.dacl) text += `D:${formatAcl(descriptor.dacl, descriptor.control, DACL_BITS)}`;
  if (descriptor.sacl) text += `S:${formatAcl(descriptor.sacl, descriptor.control, SACL_BITS)}`;
  return text;
}

function atOffset<T>(offset: number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof SddlError) throw error;
    throw new SddlError(messageOf(error), offset);
  }
}

class SddlParser {
  #at = 0;

  constructor(private readonly text: string) {}

  parse(): SecurityDescriptor {
    let control: number = SD_CONTROL.selfRelative;
    const found: { owner?: Uint8Array; group?: Uint8Array; dacl?: Acl | null; sacl?: Acl } = {};
    const once = (part: keyof typeof found, letter: string) => {
      if (part in found) this.#fail(`"${letter}:" appears twice`, this.#at - 2);
    };
    while (this.#at < this.text.length) {
      const tag = this.text.slice(this.#at, this.#at + 2);
      this.#at += 2;
      if (tag === 'O:') {
        once('owner', 'O');
        found.owner = this.#sid();
      } else if (tag === 'G:') {
        once('group', 'G');
        found.group = this.#sid();
      } else if (tag === 'D:') {
        once('dacl', 'D');
        const dacl = this.#acl(DACL_BITS, true);
        found.dacl = dacl.acl;
        control |= dacl.control;
      } else if (tag === 'S:') {
        once('sacl', 'S');
        const sacl = this.#acl(SACL_BITS, false);
        if (sacl.acl !== null) found.sacl = sacl.acl;
        control |= sacl.control;
      } else {
        this.#fail('expected "O:", "G:", "D:" or "S:"', this.#at - 2);
      }
    }
    return {
      control,
      owner: found.owner ?? null,
      group: found.group ?? null,
      dacl: found.dacl ?? null,
      sacl: found.sacl ?? null,
    };
  }

  #fail(message: string, offset = this.#at): never {
    throw new SddlError(message, offset);
  }

  #take(text: string): boolean {
    if (!this.text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #expect(text: string): void {
    if (!this.#take(text)) this.#fail(`expected "${text}"`);
  }

  #sid(): Uint8Array {
    const { sid, end } = readSid(this.text, this.#at);
    this.#at = end;
    return sid;
  }

  #acl(bits: AclBits, mayBeAbsent: boolean): { readonly acl: Acl | null; readonly control: number } {
    if (mayBeAbsent && this.#take(NO_DACL)) return { acl: null, control: 0 };
    let control = 0;
    for (;;) {
      if (this.#take('P')) control |= bits.protected;
      else if (this.#take('AI')) control |= bits.autoInherited;
      else if (this.#take('AR')) control |= bits.autoInheritRequested;
      else break;
    }
    const aces: Ace[] = [];
    while (this.#take('(')) aces.push(this.#ace());
    const plain = aces.every((ace) => ace.shape === 'plain');
    return { acl: { revision: plain ? 2 : 4, aces }, control };
  }

  /** Text up to the next `;`, which is consumed. */
  #field(): { readonly text: string; readonly at: number } {
    const at = this.#at;
    const end = this.text.slice(at).search(/[;()]/);
    if (end < 0 || this.text[at + end] !== ';')
      this.#fail('expected ";"', end < 0 ? this.text.length : at + end);
    this.#at = at + end + 1;
    return { text: this.text.slice(at, at + end), at };
  }

  #ace(): Ace {
    const typeField = this.#field();
    const type = ACE_TYPES.get(typeField.text);
    if (type === undefined) this.#fail(`unknown ACE type "${typeField.text}"`, typeField.at);
    const shape = aceShape(type);
    const flagField = this.#field();
    const flags = pairs(flagField.text, flagField.at, 'ACE flag', [ACE_FLAGS]);
    const rightsField = this.#field();
    const mask = parseRights(rightsField.text, rightsField.at, type);
    const takesGuids = shape === 'object' || shape === 'callbackObject';
    const [objectType, inheritedObjectType] = [this.#guid(takesGuids), this.#guid(takesGuids)];
    const sid = this.#sid();
    let extra: Uint8Array = new Uint8Array(0);
    if (shape === 'callback' || shape === 'callbackObject') {
      this.#expect(';');
      const condition = parseCondition(this.text, this.#at);
      this.#at = condition.end;
      extra = condition.bytes;
    }
    if (shape === 'attribute') {
      this.#expect(';');
      const claim = parseClaim(this.text, this.#at);
      this.#at = claim.end;
      extra = claim.bytes;
    }
    this.#expect(')');
    return { type, flags, shape, mask, objectType, inheritedObjectType, sid, extra };
  }

  #guid(allowed: boolean): Uint8Array | null {
    const field = this.#field();
    if (field.text === '') return null;
    if (!allowed) this.#fail('this ACE type takes no GUID', field.at);
    if (field.text.startsWith('{')) this.#fail('GUIDs in SDDL have no braces', field.at);
    return atOffset(field.at, () => parseGuid(field.text));
  }
}

function pairs(
  text: string,
  at: number,
  what: string,
  tables: readonly ReadonlyMap<string, number>[],
): number {
  let bits = 0;
  for (let index = 0; index < text.length; index += 2) {
    const pair = text.slice(index, index + 2);
    const bit = tables.map((table) => table.get(pair)).find((value) => value !== undefined);
    if (bit === undefined) throw new SddlError(`unknown ${what} "${pair}"`, at + index);
    bits = (bits | bit) >>> 0;
  }
  return bits;
}

function parseRights(text: string, at: number, type: number): number {
  if (/^(0x[0-9a-f]+|[0-9]+)$/i.test(text)) {
    const mask = Number(text);
    if (mask > 0xffffffff) throw new SddlError(`access mask "${text}" exceeds 32 bits`, at);
    return mask;
  }
  return pairs(text, at, 'access right', type === TYPE_LABEL ? [LABEL_RIGHTS, RIGHTS] : [RIGHTS]);
}

function formatAcl(acl: Acl, control: number, bits: AclBits): string {
  let text = '';
  if ((control & bits.protected) !== 0) text += 'P';
  if ((control & bits.autoInheritRequested) !== 0) text += 'AR';
  if ((control & bits.autoInherited) !== 0) text += 'AI';
  return text + acl.aces.map(formatAce).join('');
}

function formatAce(ace: Ace): string {
  const type = [...ACE_TYPES].find(([, code]) => code === ace.type)?.[0];
  if (type === undefined || ace.sid === null) {
    throw new SddlError(`ACE type 0x${ace.type.toString(16).padStart(2, '0')} has no SDDL form`, 0);
  }
  let rest = ace.flags;
  let flags = '';
  for (const [name, bit] of ACE_FLAGS) {
    if ((rest & bit) === 0) continue;
    flags += name;
    rest &= ~bit;
  }
  if (rest !== 0) throw new SddlError(`ACE flags 0x${ace.flags.toString(16)} have no SDDL form`, 0);
  const guid = (bytes: Uint8Array | null) => (bytes ? formatPlainGuid(bytes) : '');
  const fields = [
    type,
    flags,
    `0x${ace.mask.toString(16)}`,
    guid(ace.objectType),
    guid(ace.inheritedObjectType),
    formatSidShort(ace.sid),
  ];
  if (ace.shape === 'callback' || ace.shape === 'callbackObject') fields.push(formatCondition(ace.extra));
  if (ace.shape === 'attribute') fields.push(formatClaim(ace.extra));
  return `(${fields.join(';')})`;
}
