import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AccessCheckError, accessCheck } from '../../src/access/accessCheck.js';
import { fieldGuid } from '../../src/access/fieldGuid.js';
import { ROOT_GUIDS } from '../../src/access/fieldLists.js';
import type { ObjectNode } from '../../src/access/objectTree.js';
import { EVENTD_MAPPING, GENERIC_READ } from '../../src/access/rights.js';
import { sddlToSecurityDescriptor } from '../../src/access/sddl.js';
import type { Token } from '../../src/access/token.js';
import { formatPlainGuid } from '../../src/host/guid.js';
import { groups, M, N, sid, tokenOf, userToken } from '../fixtures/access.js';

const T = formatPlainGuid(fieldGuid('timestamp'));
const E = formatPlainGuid(fieldGuid('event_type'));
const C = formatPlainGuid(fieldGuid('cpu_id'));
const G = formatPlainGuid(fieldGuid('granted_access'));
const ROOT = formatPlainGuid(ROOT_GUIDS.events);
const LIST: readonly ObjectNode[] = [
  { level: 0, guid: ROOT_GUIDS.events },
  ...['timestamp', 'event_type', 'cpu_id', 'granted_access'].map((name) => ({
    level: 1,
    guid: fieldGuid(name),
  })),
];

const ALL = '✓✓✓✓✓';
const NONE = '·····';
const TEAM = `D:(A;;0x1;;;${N})(OA;;0x1;${T};;${M})(OA;;0x1;${E};;${M})(OA;;0x1;${C};;${M})`;
const IF_ADMINISTRATOR = 'D:(XA;;0x1;;;AU;(Member_of{SID(BA)}))';
const DEFAULT = 'D:(A;;0x1;;;SY)(A;;0x1;;;BA)';
const OWN = 'O:S-1-22-1-1000G:SYD:(A;;0x1;;;OW)';

const system = tokenOf('SY', []);
const restricted = (...names: string[]) => ({ restrictingSids: groups(names) });

function bytesOf(sddl: string): Uint8Array {
  return sddlToSecurityDescriptor(/^[DS]:|^$/.test(sddl) ? `O:SYG:SY${sddl}` : sddl);
}

function verdicts(
  sddl: string,
  token: Token,
  desired = 0x1,
  nodes: readonly ObjectNode[] | null = LIST,
): string {
  const { nodes: results } = accessCheck({
    descriptor: bytesOf(sddl),
    token,
    desired,
    mapping: EVENTD_MAPPING,
    nodes,
  });
  return results.map(({ ok }) => (ok ? '✓' : '·')).join('');
}

/** The vectors of Appendix C: number, descriptor, token, result, requested rights, list. */
const VECTORS: readonly (readonly [
  string,
  string,
  Token,
  string,
  number?,
  (readonly ObjectNode[] | null)?,
])[] = [
  ['[ACL-83] 1 SYSTEM', DEFAULT, system, ALL],
  ['[ACL-83] 2 an ordinary user', DEFAULT, userToken(), NONE],
  ['[ACL-69] 3 an administrator', DEFAULT, userToken(['BA']), ALL],
  ['[ACL-69] 3 deny-only', DEFAULT, userToken([['BA', 0x10]]), NONE],
  ['[ACL-69] 3 disabled', DEFAULT, userToken([['BA', 0]]), NONE],
  ['[ACL-21] 4 no GUID means all fields', TEAM, userToken([N]), ALL],
  ['[ACL-21] [ACL-79] 4 three fields', TEAM, userToken([M]), '·✓✓✓·'],
  ['[ACL-79] 5 the root gains what all its children have', TEAM, userToken([M]), '✓✓✓✓', 1, LIST.slice(0, 4)],
  [
    '[ACL-79] 6 a denied field denies the root',
    `D:(OD;;0x1;${G};;${M})(A;;0x1;;;${M})`,
    userToken([M]),
    '·✓✓✓·',
  ],
  [
    '[ACL-78] 7 a deny after the allow is too late',
    `D:(A;;0x1;;;${M})(OD;;0x1;${G};;${M})`,
    userToken([M]),
    ALL,
  ],
  ['[ACL-78] 8 deny between', `D:(OA;;0x1;${T};;${M})(D;;0x1;;;${M})(A;;0x1;;;AU)`, userToken([M]), '·✓···'],
  ['[ACL-21] 9 the root GUID is the whole tree', `D:(OA;;0x1;${ROOT};;${M})`, userToken([M]), ALL],
  [
    '[ACL-79] 10 a GUID outside the list',
    `D:(OA;;0x1;${formatPlainGuid(fieldGuid('target_sid'))};;${M})`,
    userToken([M]),
    NONE,
  ],
  [
    '[ACL-79] 10 without a list',
    `D:(OA;;0x1;${formatPlainGuid(fieldGuid('target_sid'))};;${M})`,
    userToken([M]),
    '✓',
    1,
    null,
  ],
  ['[ACL-77] 11 no DACL', '', tokenOf('AN', [], { integrityLevel: 0 }), ALL],
  ['[ACL-77] 12 an empty DACL', 'D:', system, NONE],
  ['[ACL-76] 12 the owner may read the descriptor', 'D:', system, ALL, 0x20000],
  ['[ACL-78] 13 generic bits of an ACE are mapped', 'D:(A;;GR;;;AU)', userToken(), ALL],
  [
    '[ACL-16] 14 GENERIC_READ asks for more than EVENTD_READ',
    'D:(A;;0x1;;;AU)',
    userToken(),
    NONE,
    GENERIC_READ,
  ],
  ['[ACL-78] 15 inherit-only', 'D:(A;IO;0x1;;;AU)', userToken(), NONE],
  ['[ACL-74] 16 Low reads', 'D:(A;;0x3;;;AU)', userToken([], { integrityLevel: 4096 }), ALL],
  ['[ACL-74] 16 Low does not write', 'D:(A;;0x3;;;AU)', userToken([], { integrityLevel: 4096 }), NONE, 0x2],
  ['[ACL-74] 17 no read up', 'D:(A;;0x1;;;AU)S:(ML;;0x1;;;HI)', userToken(), NONE],
  [
    '[ACL-74] 17 High reads',
    'D:(A;;0x1;;;AU)S:(ML;;0x1;;;HI)',
    userToken([], { integrityLevel: 12288 }),
    ALL,
  ],
  ['[ACL-70] 18 owner rights', OWN, userToken(), ALL],
  ['[ACL-70] 18 of somebody else', OWN, tokenOf('S-1-22-1-1001', ['AU', 'WD']), NONE],
  ['[ACL-76] 18 nothing beside the named owner rights', OWN, userToken(), NONE, 0x40000],
  ['[ACL-81] 19 the restricting SIDs lack it', 'D:(A;;0x1;;;BA)', userToken(['BA'], restricted('AU')), NONE],
  ['[ACL-81] 19 both have it', 'D:(A;;0x1;;;BA)(A;;0x1;;;AU)', userToken(['BA'], restricted('AU')), ALL],
  ['[ACL-54] [ACL-86] 20 a condition that holds', IF_ADMINISTRATOR, userToken(['BA']), ALL],
  ['[ACL-54] [ACL-86] 20 a condition that does not', IF_ADMINISTRATOR, userToken(), NONE],
  [
    '[ACL-86] [ACL-89] 21 an unknown condition denies',
    'D:(XD;;0x1;;;AU;(@User.clearance == 1))(A;;0x1;;;AU)',
    userToken(),
    NONE,
  ],
];

for (const [title, sddl, token, expected, desired, nodes] of VECTORS) {
  test(`[HOST-71] [ACL-2] vector ${title}`, () => {
    assert.equal(verdicts(sddl, token, desired ?? 1, nodes === undefined ? LIST : nodes), expected);
  });
}

test('[HOST-71] none of the vectors 1 to 21 of the appendix is left out', () => {
  const numbers = new Set(VECTORS.map(([title]) => /\] (\d+) /.exec(title)?.[1]));
  assert.deepEqual(
    [...numbers].map(Number).sort((a, b) => a - b),
    Array.from({ length: 21 }, (_, i) => i + 1),
  );
});

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof AccessCheckError) return error.code;
    throw error;
  }
  return 'decided';
}

test('[ACL-71] [ACL-72] [ACL-68] [ACL-64] what cannot be decided is refused with its own code, first things first', () => {
  const user = userToken();
  const identification = userToken([], { type: 'identification' });
  const twice = [...LIST, { level: 1, guid: fieldGuid('timestamp') }];
  const check = (sddl: string, token: Token, nodes: readonly ObjectNode[] = LIST, desired = 1) =>
    refusal(() => verdicts(sddl, token, desired, nodes));
  assert.equal(check(DEFAULT, identification), 'EACCES');
  assert.equal(check('G:SYD:(A;;0x1;;;AU)', identification), 'EACCES');
  assert.equal(check('G:SYD:(A;;0x1;;;AU)', user), 'EINVAL');
  assert.equal(check(DEFAULT, user, twice), 'EINVAL');
  assert.equal(check(DEFAULT, user, []), 'EINVAL');
  assert.equal(check(DEFAULT, user, LIST.slice(1)), 'EINVAL');
  assert.equal(
    check(
      DEFAULT,
      user,
      [LIST[0], LIST[0]].flatMap((node) => node ?? []),
    ),
    'EINVAL',
  );
  assert.equal(check(DEFAULT, user, [...LIST, { level: 3, guid: fieldGuid('x') }]), 'EINVAL');
  for (const reserved of [0x200000, 0x400000, 0x800000, 0x4000000, 0x8000000]) {
    assert.equal(check(DEFAULT, user, LIST, reserved | 1), 'EINVAL');
  }
  assert.equal(check(DEFAULT, user), 'decided');
  const malformed = () =>
    accessCheck({
      descriptor: new Uint8Array(20),
      token: user,
      desired: 1,
      mapping: EVENTD_MAPPING,
      nodes: null,
    });
  assert.equal(refusal(malformed), 'EINVAL');
});

test('[ACL-72] more than 1024 nodes are no list', () => {
  const wide = (count: number) => [
    LIST[0] ?? { level: 0, guid: ROOT_GUIDS.events },
    ...Array.from({ length: count }, (_, index) => ({ level: 1, guid: fieldGuid(`f${index}`) })),
  ];
  assert.equal(
    refusal(() => verdicts(DEFAULT, system, 1, wide(1023))),
    'decided',
  );
  assert.equal(
    refusal(() => verdicts(DEFAULT, system, 1, wide(1024))),
    'EINVAL',
  );
});

function granted(sddl: string, token: Token, desired: number): number {
  const input = { descriptor: bytesOf(sddl), token, desired, mapping: EVENTD_MAPPING, nodes: null };
  return accessCheck(input).nodes[0]?.granted ?? 0;
}

test('[ACL-73] ACCESS_SYSTEM_SECURITY is a matter of SeSecurity alone, WRITE_OWNER also of SeTakeOwnership', () => {
  const everything = 'D:(A;;0x10f0003;;;AU)';
  const may = (privileges: bigint, desired: number, sddl = everything, changes: Partial<Token> = {}) =>
    verdicts(sddl, userToken([], { privileges, ...changes }), desired, null);
  assert.equal(may(0n, 0x1000000), '·');
  assert.equal(may(1n << 8n, 0x1000000, 'D:'), '✓');
  assert.equal(may(0n, 0x80000, 'D:'), '·');
  assert.equal(may(1n << 9n, 0x80000, 'D:'), '✓');
  // Low callers do not get it past the label, unless SeRelabel lets WRITE_OWNER pass.
  assert.equal(may(1n << 9n, 0x80000, 'D:', { integrityLevel: 4096 }), '·');
  assert.equal(may((1n << 9n) | (1n << 32n), 0x80000, 'D:', { integrityLevel: 4096 }), '✓');
  // No privilege gives EVENTD_READ, and backup and restore act on intent only.
  assert.equal(may((1n << 64n) - 1n, 0x1, 'D:'), '·');
});

test('[ACL-74] a label that is no S-1-16-level is malformed; without NO_WRITE_UP in the token it binds nobody', () => {
  assert.equal(
    refusal(() => verdicts('D:(A;;0x1;;;AU)S:(ML;;0x1;;;AU)', userToken())),
    'EINVAL',
  );
  const unbound = userToken([], { mandatoryPolicy: 0, integrityLevel: 0 });
  assert.equal(verdicts('D:(A;;0x1;;;AU)S:(ML;;0x1;;;HI)', unbound), ALL);
  const first = 'D:(A;;0x1;;;AU)S:(ML;IO;0x1;;;SI)(ML;;0x2;;;HI)(ML;;0x1;;;SI)';
  assert.equal(verdicts(first, userToken()), ALL);
});

test('[ACL-75] a trust label denies callers below it on either axis what its mask leaves out', () => {
  const sddl = 'D:(A;;0x3;;;AU)S:(TL;;0x2;;;S-1-19-512-4096)';
  const trusted = (type: number, level: number) => userToken([], { trust: { type, level } });
  assert.equal(verdicts(sddl, userToken()), NONE);
  assert.equal(verdicts(sddl, userToken(), 0x2), ALL);
  assert.equal(verdicts(sddl, trusted(512, 0)), NONE);
  assert.equal(verdicts(sddl, trusted(0, 4096)), NONE);
  assert.equal(verdicts(sddl, trusted(512, 4096)), ALL);
  // It also takes back what a privilege gave.
  const security = userToken([], { privileges: 1n << 8n });
  assert.equal(verdicts(sddl, security, 0x1000000), NONE);
  assert.equal(verdicts('D:', security, 0x1000000), ALL);
});

test('[ACL-80] a plain request stops when it is settled; MAXIMUM_ALLOWED and lists see every ACE', () => {
  const sddl = 'D:(A;;0x1;;;AU)(A;;0x2;;;AU)';
  assert.equal(granted(sddl, userToken(), 0x1) & 0x3, 0x1);
  assert.equal(granted(sddl, userToken(), 0x2000001) & 0x3, 0x3);
  const input = {
    descriptor: bytesOf(sddl),
    token: userToken(),
    desired: 1,
    mapping: EVENTD_MAPPING,
    nodes: LIST,
  };
  assert.equal((accessCheck(input).nodes[2]?.granted ?? 0) & 0x3, 0x3);
});

test('[ACL-81] write-restricted tokens are bound in writing only; confinement binds in everything', () => {
  const sddl = 'D:(A;;0x3;;;BA)';
  const writer = userToken(['BA'], { ...restricted('AU'), writeRestricted: true });
  assert.equal(verdicts(sddl, writer, 0x1), ALL);
  assert.equal(verdicts(sddl, writer, 0x2), NONE);
  const confined = userToken(['BA'], { confinementSid: sid('S-1-15-2-1') });
  assert.equal(verdicts(sddl, confined), NONE);
  assert.equal(verdicts(`${sddl}(A;;0x1;;;S-1-15-2-1)`, confined), ALL);
  const capable = { ...confined, confinementCapabilities: groups(['S-1-15-3-1']) };
  assert.equal(verdicts(`${sddl}(A;;0x1;;;S-1-15-3-1)`, capable), ALL);
  // The owner's own rights end at the confinement.
  const owner = tokenOf('SY', [], { confinementSid: sid('S-1-15-2-1') });
  assert.equal(verdicts('D:', owner, 0x20000), NONE);
  assert.equal(verdicts('D:', system, 0x20000), ALL);
});

test('[ACL-82] a policy id leaves the recovery DACL: SYSTEM, Administrators and the owner', () => {
  const sddl = 'D:(A;;0x1;;;AU)(A;;0x1;;;SY)S:(SP;;0x0;;;S-1-17-1)';
  assert.equal(verdicts(sddl, userToken()), NONE);
  assert.equal(verdicts(sddl, userToken(['BA'])), ALL);
  assert.equal(verdicts(sddl, system), ALL);
});

test('[ACL-84] a SACL asks for records of success or failure, by deny polarity, and changes no verdict', () => {
  const audits = (sddl: string, token: Token, nodes: readonly ObjectNode[] | null = LIST) =>
    accessCheck({ descriptor: bytesOf(sddl), token, desired: 1, mapping: EVENTD_MAPPING, nodes }).audits;
  const both = 'D:(A;;0x1;;;AU)S:(AU;SA;0x1;;;WD)(AU;FA;0x1;;;WD)';
  const [success, ...others] = audits(both, userToken());
  assert.deepEqual([success?.kind, success?.ace?.[1], others.length], ['sacl', 0x40, 0]);
  const outsider = tokenOf('S-1-22-1-7', ['WD']);
  assert.deepEqual(
    audits(both, outsider).map(({ ace }) => ace?.[1]),
    [0x80],
  );
  assert.equal(verdicts(both, outsider), NONE);
  assert.equal(audits('D:(A;;0x1;;;AU)S:(AU;SA;0x2;;;WD)', userToken()).length, 0);
  assert.equal(audits('D:(A;;0x1;;;AU)S:(AU;SAIO;0x1;;;WD)', userToken()).length, 0);
  assert.equal(audits('D:(A;;0x1;;;AU)S:(AU;SA;0x1;;;BA)', userToken([['BA', 0x10]])).length, 1);
  assert.equal(audits('D:(A;;0x1;;;AU)S:(AU;SA;0x1;;;BA)', userToken([['BA', 0]])).length, 0);
  assert.equal(audits(`D:(A;;0x1;;;AU)S:(OU;SA;0x1;${T};;WD)`, userToken()).length, 1);
  assert.equal(audits(`D:(A;;0x1;;;AU)S:(OU;SA;0x1;${T};;WD)`, userToken(), LIST.slice(0, 1)).length, 0);
  assert.equal(audits('D:(A;;0x1;;;AU)S:(XU;SA;0x1;;;WD;(@User.x == 1))', userToken()).length, 1);
  assert.equal(audits('D:(A;;0x1;;;AU)S:(XU;SA;0x1;;;WD;(Member_of{SID(BA)}))', userToken()).length, 0);
  assert.deepEqual(audits('D:(A;;0x1;;;AU)', userToken([], { auditPolicy: 1 })), [
    { kind: 'policy', ace: null },
  ]);
  assert.equal(audits('D:', userToken([], { auditPolicy: 1 })).length, 0);
  assert.equal(audits('D:', userToken([], { auditPolicy: 2 })).length, 1);
  // A partial view is a failure: success is judged at the root.
  const partial = `D:(OA;;0x1;${T};;AU)S:(AU;FA;0x1;;;WD)`;
  assert.equal(audits(partial, userToken()).length, 1);
});

test('[ACL-70] nobody matches S-1-5-10, and an owning group counts whatever its attributes', () => {
  assert.equal(verdicts('D:(A;;0x1;;;PS)', userToken()), NONE);
  const owned = (attributes: number) => userToken([[M, attributes]]);
  for (const attributes of [0, 7, 0x10])
    assert.equal(verdicts(`O:${M}G:SYD:(A;;0x1;;;OW)`, owned(attributes)), ALL);
});

test('[ACL-69] a user that is deny-only is denied as before and allowed no more', () => {
  const denyOnly = userToken([], { userDenyOnly: true });
  assert.equal(verdicts('D:(A;;0x1;;;S-1-22-1-1000)', denyOnly), NONE);
  assert.equal(verdicts('D:(D;;0x1;;;S-1-22-1-1000)(A;;0x1;;;AU)', denyOnly), NONE);
});

test('[ACL-71] an anonymous token is S-1-5-7 and nobody else', () => {
  const anonymous = userToken(['BA'], { type: 'anonymous' });
  assert.equal(verdicts(DEFAULT, anonymous), NONE);
  assert.equal(verdicts('D:(A;;0x1;;;AU)(A;;0x1;;;WD)', anonymous), NONE);
  assert.equal(verdicts('D:(A;;0x1;;;AN)', anonymous), ALL);
});
