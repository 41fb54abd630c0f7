import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AccessCheckError, accessCheck } from '../../src/access/accessCheck.js';
import { ClaimError, decodeClaim } from '../../src/access/claims.js';
import { compile, compileDescriptor } from '../../src/access/compiledDescriptor.js';
import { readCondition } from '../../src/access/condition.js';
import { evaluateCondition } from '../../src/access/conditionEval.js';
import { fieldGuid } from '../../src/access/fieldGuid.js';
import { ROOT_GUIDS } from '../../src/access/fieldLists.js';
import type { ObjectNode } from '../../src/access/objectTree.js';
import { EVENTD_MAPPING } from '../../src/access/rights.js';
import {
  type Ace,
  aceShape,
  buildSecurityDescriptor,
  parseSecurityDescriptor,
  SD_CONTROL,
  type SecurityDescriptor,
  SecurityDescriptorError,
} from '../../src/access/securityDescriptor.js';
import { sidsEqual } from '../../src/access/sid.js';
import type { Token } from '../../src/access/token.js';
import { groups, M, N, sid, tokenOf, U } from '../fixtures/access.js';

const SETTINGS = { numRuns: 300, seed: 20_261_122 };
const READ = 0x1;

const FIELDS = ['timestamp', 'event_type', 'cpu_id', 'granted_access', 'source'];
const PRINCIPALS = [U, M, N, 'AU', 'WD', 'BA', 'OW', 'SY'];

const root: ObjectNode = { level: 0, guid: ROOT_GUIDS.events };
const flatList = (names: readonly string[]): readonly ObjectNode[] => [
  root,
  ...names.map((name) => ({ level: 1, guid: fieldGuid(name) })),
];
const LIST = flatList(FIELDS);
const NESTED: readonly ObjectNode[] = [
  ...LIST,
  { level: 2, guid: fieldGuid('source.name') },
  { level: 2, guid: fieldGuid('source.host') },
  { level: 3, guid: fieldGuid('source.host.id') },
];

const guids = fc.constantFrom<(Uint8Array | null)[]>(
  null,
  root.guid,
  ...[...FIELDS, 'source.name', 'source.host', 'elsewhere'].map((name) => fieldGuid(name)),
);
const masks = fc.constantFrom(0x1, 0x2, 0x3, 0x80000000, 0x10000000, 0x20000);

/** Allow and deny ACEs with and without a field, some of them inherit-only. */
const aces: fc.Arbitrary<Ace> = fc
  .record({
    deny: fc.boolean(),
    objectType: fc.option(guids, { nil: undefined }),
    flags: fc.constantFrom(0, 0, 0, 0x8, 0x13),
    mask: masks,
    principal: fc.constantFrom(...PRINCIPALS),
  })
  .map(({ deny, objectType, flags, mask, principal }) => {
    const isObject = objectType !== undefined;
    return ace((isObject ? 0x05 : 0x00) + (deny ? 1 : 0), principal, mask, objectType ?? null, flags);
  });

function ace(type: number, principal: string, mask: number, objectType: Uint8Array | null, flags = 0): Ace {
  return {
    type,
    flags,
    shape: aceShape(type),
    mask,
    objectType,
    inheritedObjectType: null,
    sid: sid(principal),
    extra: new Uint8Array(0),
  };
}

const acls = fc.array(aces, { maxLength: 8 });

const tokens: fc.Arbitrary<Token> = fc
  .record({
    user: fc.constantFrom(U, M, 'SY'),
    groups: fc.array(fc.tuple(fc.constantFrom('AU', 'WD', 'BA', M, N), fc.constantFrom(7, 7, 7, 0, 0x10)), {
      maxLength: 4,
    }),
    restricting: fc.array(fc.constantFrom('AU', 'BA', M), { maxLength: 2 }),
    integrityLevel: fc.constantFrom(0, 8192, 16384),
    confined: fc.boolean(),
  })
  .map(({ user, groups: list, restricting, integrityLevel, confined }) =>
    tokenOf(user, list, {
      restrictingSids: groups(restricting),
      integrityLevel,
      confinementSid: confined && restricting.length > 0 ? sid('AU') : null,
    }),
  );

function descriptor(dacl: readonly Ace[], owner = 'SY'): SecurityDescriptor {
  return {
    control: SD_CONTROL.selfRelative | SD_CONTROL.daclPresent,
    owner: sid(owner),
    group: null,
    sacl: null,
    dacl: { revision: 4, aces: dacl },
  };
}

function read(dacl: readonly Ace[], token: Token, nodes: readonly ObjectNode[] | null = LIST): boolean[] {
  const compiled = compile(descriptor(dacl));
  const input = { descriptor: compiled, token, desired: READ, mapping: EVENTD_MAPPING, nodes };
  return accessCheck(input).nodes.map(({ ok }) => ok);
}

test('[ACL-78] a deny that comes before everything else leaves nothing', () => {
  fc.assert(
    fc.property(acls, tokens, (dacl, token) => {
      const own = { ...ace(0x01, 'WD', READ, null), sid: token.user };
      assert.ok(read([own, ...dacl], token, NESTED).every((ok) => !ok));
    }),
    SETTINGS,
  );
});

test('[ACL-78] [ACL-79] one more allow, wherever it stands, takes nothing away', () => {
  fc.assert(
    fc.property(acls, tokens, aces, fc.nat({ max: 8 }), (dacl, token, more, at) => {
      const allow = { ...more, type: more.shape === 'object' ? 0x05 : 0x00 };
      const before = read(dacl, token, NESTED);
      const after = read([...dacl.slice(0, at), allow, ...dacl.slice(at)], token, NESTED);
      assert.ok(before.every((ok, index) => !ok || after[index]));
    }),
    SETTINGS,
  );
});

test('[ACL-79] the root is granted exactly when each of its children is', () => {
  fc.assert(
    fc.property(acls, tokens, (dacl, token) => {
      const [whole, ...fields] = read(dacl, token);
      assert.equal(whole, fields.every(Boolean));
    }),
    SETTINGS,
  );
});

test('[ACL-43] [ACL-79] without object ACEs every node has the verdict of a check without a list', () => {
  fc.assert(
    fc.property(acls, tokens, (dacl, token) => {
      const plain = dacl.filter(({ shape }) => shape === 'plain');
      const [single] = read(plain, token, null);
      assert.ok(read(plain, token, NESTED).every((ok) => ok === single));
      assert.deepEqual(read(plain, token, [root]), [single]);
    }),
    SETTINGS,
  );
});

test('[ACL-22] [ACL-79] the verdict of a field does not depend on the fields beside it', () => {
  fc.assert(
    fc.property(acls, tokens, fc.subarray(FIELDS, { minLength: 1 }), (dacl, token, some) => {
      const all = read(dacl, token);
      const few = read(dacl, token, flatList(some));
      for (const [index, name] of some.entries()) assert.equal(few[index + 1], all[FIELDS.indexOf(name) + 1]);
    }),
    SETTINGS,
  );
});

/** The rule for one field of a flat list, said in another way: the first ACE about it decides. */
function firstDecides(dacl: readonly Ace[], token: Token, field: string): boolean {
  const matches = ({ sid: who, type }: Ace): boolean => {
    if (who === null) return false;
    if (sidsEqual(who, sid('OW'))) return sidsEqual(token.user, sid('SY'));
    if (sidsEqual(who, token.user)) return true;
    const deny = type === 0x01 || type === 0x06;
    return token.groups.some(
      (group) => sidsEqual(who, group.sid) && (group.attributes === 7 || (deny && group.attributes === 0x10)),
    );
  };
  const about = ({ objectType }: Ace) =>
    objectType === null || sidsEqual(objectType, root.guid) || sidsEqual(objectType, fieldGuid(field));
  const readBits = [0x1, 0x3, 0x80000000, 0x10000000];
  const first = dacl.find(
    (one) => (one.flags & 0x8) === 0 && readBits.includes(one.mask) && about(one) && matches(one),
  );
  return first !== undefined && (first.type === 0x00 || first.type === 0x05);
}

test('[ACL-69] [ACL-78] [ACL-79] a field is decided by the first ACE that is about it and the caller', () => {
  fc.assert(
    fc.property(acls, tokens, (dacl, token) => {
      const plain = { ...token, restrictingSids: [], confinementSid: null };
      const verdicts = read(dacl, plain);
      for (const [index, field] of FIELDS.entries()) {
        assert.equal(verdicts[index + 1], firstDecides(dacl, plain, field), field);
      }
    }),
    { ...SETTINGS, numRuns: 600 },
  );
});

test('[ACL-81] restrictions and confinement only ever take away', () => {
  fc.assert(
    fc.property(acls, tokens, (dacl, token) => {
      const bound = read(dacl, token, NESTED);
      const free = read(dacl, { ...token, restrictingSids: [], confinementSid: null }, NESTED);
      assert.ok(bound.every((ok, index) => !ok || free[index]));
    }),
    SETTINGS,
  );
});

const unknownAces: fc.Arbitrary<Ace> = fc
  .record({
    type: fc.integer({ min: 0x15, max: 0xff }),
    body: fc.uint8Array({ maxLength: 8 }),
    flags: fc.nat(255),
  })
  .map(({ type, body, flags }) => ({
    type,
    flags,
    shape: 'unknown',
    mask: 0,
    objectType: null,
    inheritedObjectType: null,
    sid: null,
    extra: body.slice(0, body.length & ~3),
  }));

const descriptors = fc
  .record({
    owner: fc.option(fc.constantFrom(...PRINCIPALS).map(sid), { nil: null }),
    group: fc.option(fc.constantFrom(...PRINCIPALS).map(sid), { nil: null }),
    sacl: fc.option(fc.array(unknownAces, { maxLength: 3 }), { nil: null }),
    dacl: fc.option(fc.array(fc.oneof(aces, unknownAces), { maxLength: 6 }), { nil: null }),
    bits: fc.subarray([0x0400, 0x0800, 0x0100, 0x1000, 0x2000]),
  })
  .map(({ owner, group, sacl, dacl, bits }): SecurityDescriptor => {
    const present = (sacl ? SD_CONTROL.saclPresent : 0) | (dacl ? SD_CONTROL.daclPresent : 0);
    const control = bits.reduce((sum, bit) => sum | bit, SD_CONTROL.selfRelative | present);
    const acl = (list: readonly Ace[] | null) => list && { revision: 4, aces: list };
    return { control, owner, group, sacl: acl(sacl), dacl: acl(dacl) };
  });

test('[ACL-63] [ACL-65] [ACL-67] what is written is read back, and what is read is written back', () => {
  fc.assert(
    fc.property(descriptors, (one) => {
      const bytes = buildSecurityDescriptor(one);
      const parsed = parseSecurityDescriptor(bytes);
      assert.deepEqual(parsed, one);
      assert.deepEqual(buildSecurityDescriptor(parsed), bytes);
    }),
    SETTINGS,
  );
});

test('[ACL-67] unknown ACE types change no verdict', () => {
  fc.assert(
    fc.property(acls, tokens, fc.array(unknownAces, { maxLength: 4 }), fc.nat(8), (dacl, token, odd, at) => {
      const mixed = [...dacl.slice(0, at), ...odd, ...dacl.slice(at)];
      assert.deepEqual(read(mixed, token, NESTED), read(dacl, token, NESTED));
    }),
    SETTINGS,
  );
});

/** Valid descriptors with some bytes changed or cut off, and plain noise. */
const damaged = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  fc
    .tuple(descriptors, fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 4 }), fc.nat(30))
    .map(([one, changes, cut]) => {
      const bytes = buildSecurityDescriptor(one);
      for (const [at, value] of changes) bytes[at % bytes.length] = value;
      return bytes.slice(0, Math.max(0, bytes.length - (cut > 20 ? cut - 20 : 0)));
    }),
);

function outcome(work: () => unknown): string {
  try {
    return JSON.stringify(work(), (_, value) => (typeof value === 'bigint' ? String(value) : value));
  } catch (error) {
    if (error instanceof SecurityDescriptorError || error instanceof AccessCheckError) return error.message;
    throw error;
  }
}

test('[ACL-64] whatever the bytes are, reading ends in a descriptor or in its own error, within its bounds', () => {
  const token = tokenOf(U, ['AU', 'WD']);
  fc.assert(
    fc.property(damaged, (bytes) => {
      // The same bytes inside a larger buffer: a read beyond the end would find other neighbours.
      const surrounded = new Uint8Array(bytes.length + 64).fill(0xa5);
      surrounded.set(bytes, 32);
      const view = surrounded.subarray(32, 32 + bytes.length);
      const check = (descriptorBytes: Uint8Array) => () =>
        accessCheck({
          descriptor: descriptorBytes,
          token,
          desired: READ,
          mapping: EVENTD_MAPPING,
          nodes: NESTED,
        });
      assert.equal(outcome(check(view)), outcome(check(bytes)));
      assert.equal(
        outcome(() => parseSecurityDescriptor(view)),
        outcome(() => parseSecurityDescriptor(bytes)),
      );
    }),
    { ...SETTINGS, numRuns: 1500 },
  );
});

test('[ACL-66] [ACL-86] noise as a claim or as a condition never throws anything but its own error', () => {
  const tokens8 = fc.constantFrom(
    0x00,
    0x01,
    0x04,
    0x10,
    0x18,
    0x50,
    0x51,
    0x80,
    0x86,
    0x87,
    0x89,
    0xa0,
    0xa2,
    0xf8,
    0xf9,
  );
  const noise = fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    fc.array(fc.oneof(tokens8, fc.nat(255)), { maxLength: 60 }),
  );
  const context = {
    deny: false,
    claims: { local: new Map(), user: new Map(), resource: new Map(), device: new Map() },
    isMember: () => false,
    isDeviceMember: () => false,
  };
  fc.assert(
    fc.property(noise, (bytes) => {
      const condition = Uint8Array.from([0x61, 0x72, 0x74, 0x78, ...bytes]);
      assert.ok([0, 1, 2].includes(evaluateCondition(readCondition(condition), context)));
      try {
        decodeClaim(Uint8Array.from(bytes));
      } catch (error) {
        assert.ok(error instanceof ClaimError);
      }
    }),
    { ...SETTINGS, numRuns: 1000 },
  );
});

test('[ACL-25] [ACL-64] the largest descriptor over the largest list is decided in bounded time', () => {
  const wide = flatList(Array.from({ length: 1023 }, (_, index) => `f${index}`));
  const plain = Array.from({ length: 3270 }, () => ace(0x00, 'WD', 0x2, null));
  const objects = Array.from({ length: 1630 }, (_, index) =>
    ace(0x05, 'WD', 0x2, fieldGuid(`f${index % 1023}`)),
  );
  for (const dacl of [plain, objects]) {
    const bytes = buildSecurityDescriptor(descriptor(dacl));
    assert.ok(bytes.length > 60_000 && bytes.length <= 65_535, `${bytes.length}`);
    const started = process.hrtime.bigint();
    const compiled = compileDescriptor(bytes);
    const token = tokenOf(U, ['AU', 'WD']);
    const input = { descriptor: compiled, token, desired: READ, mapping: EVENTD_MAPPING, nodes: wide };
    assert.ok(accessCheck(input).nodes.every(({ ok }) => !ok));
    assert.ok(process.hrtime.bigint() - started < 2_000_000_000n);
  }
});
