import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accessCheck } from '../../src/access/accessCheck.js';
import {
  CLAIM,
  ClaimError,
  claimTable,
  decodeClaim,
  encodeClaim,
  encodeClaims,
  type NamedClaim,
} from '../../src/access/claims.js';
import { compileDescriptor } from '../../src/access/compiledDescriptor.js';
import { readCondition } from '../../src/access/condition.js';
import { evaluateCondition } from '../../src/access/conditionEval.js';
import { EVENTD_MAPPING } from '../../src/access/rights.js';
import { SddlError, sddlToSecurityDescriptor, securityDescriptorToSddl } from '../../src/access/sddl.js';
import { parseCondition } from '../../src/access/sddlCondition.js';
import {
  buildSecurityDescriptor,
  SD_CONTROL,
  SecurityDescriptorError,
} from '../../src/access/securityDescriptor.js';
import { sidKey } from '../../src/access/sid.js';
import { sid, userToken } from '../fixtures/access.js';

const NAMES = ['FALSE', 'UNKNOWN', 'TRUE'];

const claim = (name: string, type: number, values: NamedClaim['values'], flags = 0): NamedClaim => ({
  name,
  type,
  flags,
  values,
});

const USER = claimTable([
  claim('Clearance', CLAIM.int64, [3n]),
  claim('big', CLAIM.uint64, [2n ** 63n]),
  claim('minus', CLAIM.int64, [-1n]),
  claim('zero', CLAIM.int64, [0n]),
  claim('team', CLAIM.string, ['Red']),
  claim('exact', CLAIM.string, ['Red'], 0x2),
  claim('teams', CLAIM.string, ['red', 'Blue', 'green']),
  claim('yes', CLAIM.boolean, [1n]),
  claim('nothing', CLAIM.string, []),
  claim('blank', CLAIM.string, ['']),
  claim('denyOnly', CLAIM.int64, [1n], 0x4),
  claim('disabled', CLAIM.int64, [1n], 0x10),
  claim('boss', CLAIM.sid, [sid('BA')]),
  claim('key', CLAIM.octets, [Uint8Array.of(0x0a, 0xff)]),
]);

function evaluate(bytes: Uint8Array, deny = false): string {
  const member = sidKey(sid('BU'));
  const denied = sidKey(sid('BG'));
  const value = evaluateCondition(readCondition(bytes), {
    deny,
    claims: { local: new Map(), user: USER, resource: new Map(), device: new Map() },
    isMember: (key, polarity) => key === member || (polarity && key === denied),
    isDeviceMember: (key) => key === sidKey(sid('BO')),
  });
  return NAMES[value] ?? 'none';
}

const of = (text: string, deny = false) => evaluate(parseCondition(text, 0).bytes, deny);

function table(cases: Readonly<Record<string, string>>): void {
  for (const [text, expected] of Object.entries(cases)) assert.equal(of(text), expected, text);
}

test('[ACL-88] comparisons of integers, strings, sets, SIDs and octets', () => {
  table({
    '(@User.clearance == 3)': 'TRUE',
    '(@User.clearance != 3)': 'FALSE',
    '(@User.clearance < 4)': 'TRUE',
    '(@User.clearance <= 2)': 'FALSE',
    '(@User.clearance > -5)': 'TRUE',
    '(@User.clearance >= 3)': 'TRUE',
    '(@User.teams Contains {"BLUE", "red"})': 'TRUE',
    '(@User.teams Contains {"blue", "black"})': 'FALSE',
    '(@User.teams Not_Contains {"blue", "black"})': 'TRUE',
    '(@User.teams Any_of {"blue", "black"})': 'TRUE',
    '(@User.teams Not_Any_of {"blue", "black"})': 'FALSE',
    '(@User.teams == {"green", "RED", "blue"})': 'TRUE',
    '(@User.boss == SID(BA))': 'TRUE',
    '(@User.key == #0aff)': 'TRUE',
    '(@User.key != #0afe)': 'TRUE',
    '(@User.team > "rea")': 'TRUE',
    '(@User.teams > "a")': 'UNKNOWN',
    '(@User.boss > SID(BA))': 'UNKNOWN',
  });
});

test('[ACL-89] absent, empty and disabled attributes are null; Exists says so, comparisons do not know', () => {
  table({
    '(@User.absent == 1)': 'UNKNOWN',
    '(@User.nothing == "x")': 'UNKNOWN',
    '(@User.disabled == 1)': 'UNKNOWN',
    '(Exists @User.absent)': 'FALSE',
    '(Not_Exists @User.absent)': 'TRUE',
    '(Exists @User.nothing)': 'FALSE',
    '(Exists @User.disabled)': 'FALSE',
    '(Exists @User.TEAM)': 'TRUE',
    '(Exists @Device.team)': 'FALSE',
  });
  assert.deepEqual([of('(@User.denyOnly == 1)'), of('(@User.denyOnly == 1)', true)], ['UNKNOWN', 'TRUE']);
  assert.deepEqual([of('(Exists @User.denyOnly)'), of('(Exists @User.denyOnly)', true)], ['FALSE', 'TRUE']);
});

test('[ACL-89] mixed types are UNKNOWN, except signed and unsigned integers; flagged strings keep case', () => {
  table({
    '(@User.clearance == "3")': 'UNKNOWN',
    '(@User.yes == 1)': 'UNKNOWN',
    '(@User.teams Contains {"red", 1})': 'UNKNOWN',
    '(@User.minus < @User.big)': 'TRUE',
    '(@User.big > 9223372036854775807)': 'TRUE',
    '(@User.team == "RED")': 'TRUE',
    '(@User.exact == "RED")': 'FALSE',
    '(@User.exact == "Red")': 'TRUE',
    '(@User.team == @User.exact)': 'TRUE',
  });
});

test('[ACL-86] [ACL-89] three-valued logic, and the truth of bare attributes', () => {
  table({
    '(@User.yes && @User.clearance)': 'TRUE',
    '(@User.yes && @User.zero)': 'FALSE',
    '(@User.blank)': 'FALSE',
    '(@User.team)': 'TRUE',
    '(@User.boss)': 'UNKNOWN',
    '(@User.key)': 'UNKNOWN',
    '(@User.teams)': 'UNKNOWN',
    '(@User.absent && @User.zero)': 'FALSE',
    '(@User.absent && @User.yes)': 'UNKNOWN',
    '(@User.absent || @User.yes)': 'TRUE',
    '(@User.absent || @User.zero)': 'UNKNOWN',
    '(!(@User.absent))': 'UNKNOWN',
    '(!(@User.zero))': 'TRUE',
  });
});

test('[ACL-88] [ACL-89] membership is asked of groups, by the polarity of the ACE', () => {
  table({
    '(Member_of{SID(BU)})': 'TRUE',
    '(Member_of{SID(BU), SID(BA)})': 'FALSE',
    '(Member_of_Any{SID(BU), SID(BA)})': 'TRUE',
    '(Not_Member_of{SID(BU), SID(BA)})': 'TRUE',
    '(Not_Member_of_Any{SID(BU)})': 'FALSE',
    '(Device_Member_of{SID(BO)})': 'TRUE',
    '(Device_Member_of_Any{SID(BU)})': 'FALSE',
    '(Not_Device_Member_of{SID(BO)})': 'FALSE',
    '(Not_Device_Member_of_Any{SID(BU)})': 'TRUE',
    '(Member_of{})': 'TRUE',
    '(Member_of_Any{})': 'FALSE',
    '(Member_of{"BU"})': 'UNKNOWN',
    '(Member_of{SID(BG)})': 'FALSE',
  });
  assert.equal(of('(Member_of{SID(BG)})', true), 'TRUE');
});

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));
const MAGIC = '61727478';
const ONE = '04 0100000000000000 03 02';

test('[ACL-86] [ACL-87] [ACL-90] malformed conditions are UNKNOWN, never an error', () => {
  const yes = `f9 06000000 790065007300`;
  assert.equal(evaluate(hex(`${MAGIC} ${yes} 000000`)), 'TRUE');
  const malformed = [
    '',
    '61727479',
    MAGIC,
    `${MAGIC} ${yes} 00000001`,
    `${MAGIC} ${yes} ${yes}`,
    `${MAGIC} a2`,
    `${MAGIC} ${yes} 94`,
    `${MAGIC} f9 ff000000 79006500`,
    `${MAGIC} f9 03000000 790065`,
    `${MAGIC} ${ONE}`,
    `${MAGIC} ${ONE} 87`,
    `${MAGIC} ${yes} ${ONE} a1`,
    `${MAGIC} ${yes} a2 ${ONE} 80`,
    `${MAGIC} 50 06000000 50 01000000 00 89`,
    `${MAGIC}${` ${yes}`.repeat(1025)}${' a0'.repeat(1024)}`,
  ];
  for (const bytes of malformed) {
    assert.equal(evaluate(hex(bytes)), 'UNKNOWN', bytes.slice(0, 60));
    assert.equal(evaluate(hex(bytes), true), 'UNKNOWN', bytes.slice(0, 60));
  }
  assert.equal(evaluate(hex(`${MAGIC}${` ${yes}`.repeat(1024)}${' a0'.repeat(1023)}`)), 'TRUE');
});

test('[ACL-87] the sign byte rules over the value’s own sign, and the width must hold the value', () => {
  const clearance = 'f9 12000000 63006c0065006100720061006e0063006500';
  const integer = (code: number, value: bigint, sign: number) => {
    const bytes = Buffer.alloc(11);
    bytes[0] = code;
    bytes.writeBigInt64LE(value, 1);
    bytes[9] = sign;
    bytes[10] = 2;
    return bytes.toString('hex');
  };
  const equals = (code: number, value: bigint, sign: number) =>
    evaluate(hex(`${MAGIC} ${clearance} ${integer(code, value, sign)} 80`));
  assert.equal(equals(4, 3n, 3), 'TRUE');
  assert.equal(equals(4, -3n, 1), 'TRUE');
  assert.equal(equals(4, 3n, 2), 'FALSE');
  assert.equal(equals(4, 3n, 0), 'UNKNOWN');
  assert.equal(equals(4, 3n, 4), 'UNKNOWN');
  assert.equal(equals(4, -(2n ** 63n), 1), 'UNKNOWN');
  for (const [code, bits] of [
    [1, 8n],
    [2, 16n],
    [3, 32n],
  ] as const) {
    assert.equal(equals(code, 2n ** (bits - 1n) - 1n, 3), 'FALSE');
    assert.equal(equals(code, 2n ** (bits - 1n), 3), 'UNKNOWN');
    assert.equal(equals(code, 2n ** (bits - 1n), 2), 'FALSE');
  }
});

function withSystemAce(type: number, sidName: string, extra: Uint8Array): Uint8Array {
  return buildSecurityDescriptor({
    control: SD_CONTROL.selfRelative,
    owner: sid('SY'),
    group: null,
    dacl: {
      revision: 4,
      aces: [
        {
          type: 0x09,
          flags: 0,
          shape: 'callback',
          mask: 1,
          objectType: null,
          inheritedObjectType: null,
          sid: sid('AU'),
          extra: parseCondition('(@Resource.level == 2)', 0).bytes,
        },
      ],
    },
    sacl: {
      revision: 2,
      aces: [
        {
          type,
          flags: 0,
          shape: 'attribute',
          mask: 0,
          objectType: null,
          inheritedObjectType: null,
          sid: sid(sidName),
          extra,
        },
      ],
    },
  });
}

test('[ACL-66] resource attributes of the SACL feed conditions; a malformed one spoils the descriptor', () => {
  const check = (descriptor: Uint8Array) =>
    accessCheck({ descriptor, token: userToken(), desired: 1, mapping: EVENTD_MAPPING, nodes: null }).nodes[0]
      ?.ok;
  const level = (value: bigint) => encodeClaim(claim('LEVEL', CLAIM.uint64, [value]));
  assert.equal(check(withSystemAce(0x12, 'WD', level(2n))), true);
  assert.equal(check(withSystemAce(0x12, 'WD', level(1n))), false);
  const broken =
    (bytes: Uint8Array, who = 'WD') =>
    () =>
      compileDescriptor(withSystemAce(0x12, who, bytes));
  assert.throws(broken(level(2n).subarray(0, 24)), SecurityDescriptorError);
  assert.throws(broken(new Uint8Array(4)), SecurityDescriptorError);
  assert.throws(broken(level(2n), 'AU'), SecurityDescriptorError);
});

test('[ACL-92] [ACL-66] resource attributes have an SDDL form of their own, in both directions', () => {
  const attributes = [
    '("Project",TS,0x2,"Red","Blue and green")',
    '("Level",TI,0x0,-3,7)',
    '("Count",TU,0x0,18446744073709551615)',
    '("Owner",TD,0x0,BA,S-1-22-1-1000)',
    '("Key",TX,0x0,#0aff,#)',
    '("Public",TB,0x0,1)',
    '("Empty",TS,0x0)',
  ];
  for (const attribute of attributes) {
    const sddl = `O:SYD:(A;;0x1;;;AU)S:(RA;;0x0;;;WD;${attribute})`;
    assert.equal(securityDescriptorToSddl(sddlToSecurityDescriptor(sddl)), sddl);
  }
  const wrong: readonly (readonly [string, number])[] = [
    ['("a",TS,0x0,5)', 12],
    ['("a",TQ,0x0,5)', 5],
    ['("a",TI,0x0,9223372036854775808)', 12],
    ['("a",TB,0x0,2)', 12],
    ['("",TS,0x0)', 0],
    ['("a",TS,0x0;"b")', 11],
  ];
  const before = 'O:SYS:(RA;;0x0;;;WD;';
  for (const [attribute, offset] of wrong) {
    const position = (error: unknown) =>
      error instanceof SddlError && error.offset === before.length + offset;
    assert.throws(() => sddlToSecurityDescriptor(`${before}${attribute})`), position, attribute);
  }
  const condition =
    'O:SYD:(XA;;0x1;;;AU;(@Resource.project Contains {"red"}))S:(RA;;0x0;;;WD;("Project",TS,0x0,"Red"))';
  const input = { token: userToken(), desired: 1, mapping: EVENTD_MAPPING, nodes: null };
  assert.equal(accessCheck({ ...input, descriptor: sddlToSecurityDescriptor(condition) }).nodes[0]?.ok, true);
});

test('[ACL-55] claims survive their binary form; what has none is left out of the array', () => {
  const claims = [
    claim('DataType', CLAIM.string, ['events', '']),
    claim('n', CLAIM.int64, [-5n, 7n], 0x2),
    claim('u', CLAIM.uint64, [2n ** 64n - 1n]),
    claim('who', CLAIM.sid, [sid('BA'), sid('SY')]),
    claim('bytes', CLAIM.octets, [Uint8Array.of(1, 2, 3), new Uint8Array(0)]),
    claim('no', CLAIM.boolean, []),
  ];
  for (const one of claims) assert.deepEqual(decodeClaim(encodeClaim(one)), one);
  const odd = [
    claim('a\0', CLAIM.string, []),
    claim('x'.repeat(257), CLAIM.string, []),
    claim('', CLAIM.string, []),
  ];
  for (const one of odd) assert.throws(() => encodeClaim(one), ClaimError);
  const huge = claim('huge', CLAIM.string, ['x'.repeat(40_000)]);
  const first = encodeClaim(claims[0] ?? huge);
  const array = encodeClaims([...odd, claims[0] ?? huge, huge]);
  assert.equal(Buffer.from(array.buffer).readUInt32LE(0), first.length);
  assert.deepEqual(array.slice(4), first);
});

test('[ACL-55] the bytes of a claim entry: offsets from its start, text in UTF-16 with a NUL', () => {
  const entry = Buffer.from(encodeClaim(claim('Id', CLAIM.string, ['a'], 0x2)));
  const name = entry.readUInt32LE(0);
  assert.equal(entry.toString('utf16le', name, name + 6), 'Id\0');
  assert.deepEqual(
    [entry.readUInt16LE(4), entry.readUInt16LE(6), entry.readUInt32LE(8), entry.readUInt32LE(12)],
    [3, 0, 2, 1],
  );
  const text = entry.readUInt32LE(entry.readUInt32LE(16));
  assert.equal(entry.toString('utf16le', text, text + 4), 'a\0');
});

test('[ACL-86] the largest conditions over the largest attributes are evaluated in bounded time', () => {
  const many = claim(
    'many',
    CLAIM.string,
    Array.from({ length: 1024 }, (_, index) => `Value ${index} of many`),
  );
  const condition = `(${'@User.many Contains @User.many || '.repeat(2000)}@User.many == 1)`;
  const bytes = parseCondition(condition, 0).bytes;
  const claims = { local: new Map(), user: claimTable([many]), resource: new Map(), device: new Map() };
  const started = process.hrtime.bigint();
  const context = { deny: false, claims, isMember: () => false, isDeviceMember: () => false };
  assert.equal(NAMES[evaluateCondition(readCondition(bytes), context)], 'TRUE');
  assert.ok(process.hrtime.bigint() - started < 2_000_000_000n);
});

test('[ACL-90] a malformed condition leaves the descriptor usable: allow does not act, deny does', () => {
  const unfinished = (type: string) => {
    const bytes = sddlToSecurityDescriptor(`O:SYG:SYD:(${type};;0x1;;;AU;(@User.x == 1))(A;;0x2;;;AU)`);
    const at = Buffer.from(bytes).indexOf('artx');
    bytes[at] = 0;
    return bytes;
  };
  const check = (descriptor: Uint8Array, desired: number) =>
    accessCheck({ descriptor, token: userToken(), desired, mapping: EVENTD_MAPPING, nodes: null }).nodes[0]
      ?.ok;
  assert.deepEqual([check(unfinished('XA'), 1), check(unfinished('XA'), 2)], [false, true]);
  assert.deepEqual([check(unfinished('XD'), 1), check(unfinished('XD'), 2)], [false, true]);
});
