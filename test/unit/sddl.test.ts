import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SddlError, sddlToSecurityDescriptor, securityDescriptorToSddl } from '../../src/access/sddl.js';
import { buildSecurityDescriptor, parseSecurityDescriptor } from '../../src/access/securityDescriptor.js';
import {
  formatSid,
  formatSidShort,
  makeSid,
  parseSid,
  SID_ALIASES,
  sidOfGid,
  sidOfUid,
} from '../../src/access/sid.js';

const hex = (data: Uint8Array) => Buffer.from(data).toString('hex');
const bytes = (text: string) => Uint8Array.from(Buffer.from(text.replace(/ /g, ''), 'hex'));

const HEADER = '010004801400000020000000000000002c000000';
const SYSTEM = '010100000000000512000000';
const ACE_SY = `0000140001000000${SYSTEM}`;
const ACE_BA = '000018000100000001020000000000052000000020020000';
const EVENTS_DEFAULT = `${HEADER}${SYSTEM}${SYSTEM}0200340002000000${ACE_SY}${ACE_BA}`;

function failure(text: string): SddlError {
  try {
    sddlToSecurityDescriptor(text);
  } catch (error) {
    if (error instanceof SddlError) return error;
    throw error;
  }
  return assert.fail(`${text} was accepted`);
}

test('[ACL-13] [ACL-63] [ACL-65] [ACL-91] the default of Events compiles to the golden bytes', () => {
  assert.equal(hex(sddlToSecurityDescriptor('O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;BA)')), EVENTS_DEFAULT);
  assert.equal(EVENTS_DEFAULT.length / 2, 96);
});

test('[ACL-66] [ACL-92] an object ACE compiles to the golden bytes with its GUID mixed-endian', () => {
  const sddl = 'O:SYG:SYD:(OA;;0x1;341d2267-b9db-536b-b36c-94ab6cd47e4c;;S-1-5-21-10-20-30-1101)';
  const ace =
    '05003800 01000000 01000000 67221d34dbb96b53b36c94ab6cd47e4c 010500000000000515000000 0a000000 14000000 1e000000 4d040000';
  const acl = '04004000 01000000';
  const compiled = sddlToSecurityDescriptor(sddl);
  assert.equal(hex(compiled), `${HEADER}${SYSTEM}${SYSTEM}${hex(bytes(acl))}${hex(bytes(ace))}`);
  assert.equal(securityDescriptorToSddl(compiled), sddl);
});

test('[ACL-87] [ACL-94] a condition compiles to the golden bytes, padded to four', () => {
  const sddl = 'O:SYG:SYD:(XA;;0x1;;;AU;(Member_of{SID(BA)}))';
  const condition = '61727478 50 15000000 51 10000000 01020000000000052000000020020000 89';
  const compiled = sddlToSecurityDescriptor(sddl);
  const ace = parseSecurityDescriptor(compiled).dacl?.aces[0];
  assert.equal(hex(ace?.extra ?? new Uint8Array()), `${hex(bytes(condition))}00`);
  assert.equal(ace?.type, 0x09);
  assert.equal(securityDescriptorToSddl(compiled), sddl);
});

test('[ACL-88] [ACL-94] operators bind in order and survive both directions', () => {
  const cases = [
    ['(@User.clearance == 1)', '(@User.clearance == 1)'],
    ['(a == 1 || b == 2 && !(c < -3))', '(a == 1 || (b == 2 && !(c < -3)))'],
    ['((a||b)&&c)', '((a || b) && c)'],
    [
      '(Exists @Resource.x && @Device.y Any_of {"p", "q"})',
      '(Exists @Resource.x && @Device.y Any_of {"p", "q"})',
    ],
    ['(x Contains #0aff)', '(x Contains #0aff)'],
    ['(Not_Member_of_Any{SID(BA), SID(S-1-22-1-1000)})', '(Not_Member_of_Any{SID(BA), SID(S-1-22-1-1000)})'],
    ['(x >= 0x10)', '(x >= 0x10)'],
  ];
  for (const [text, printed] of cases) {
    const compiled = sddlToSecurityDescriptor(`O:SYD:(XD;;0x1;;;AU;${text})`);
    assert.equal(securityDescriptorToSddl(compiled), `O:SYD:(XD;;0x1;;;AU;${printed})`);
    assert.deepEqual(sddlToSecurityDescriptor(securityDescriptorToSddl(compiled)), compiled);
  }
});

test('[ACL-91] no DACL, an empty one and a filled one stay different', () => {
  const parse = (sddl: string) => parseSecurityDescriptor(sddlToSecurityDescriptor(sddl)).dacl;
  assert.equal(parse('O:SYG:SY'), null);
  assert.equal(parse('O:SYG:SYD:NO_ACCESS_CONTROL'), null);
  assert.deepEqual(parse('O:SYG:SYD:')?.aces, []);
  assert.equal(securityDescriptorToSddl(sddlToSecurityDescriptor('O:SYD:NO_ACCESS_CONTROL')), 'O:SY');
  assert.equal(securityDescriptorToSddl(sddlToSecurityDescriptor('O:SYD:')), 'O:SYD:');
});

test('[ACL-91] [ACL-92] parts come in any order; ACL and ACE flags survive', () => {
  const sddl = 'O:BAG:SYD:PARAI(D;OICINPIOID;0x3;;;WD)S:P(AU;SAFA;0x1;;;WD)(ML;;0x2;;;HI)';
  const compiled = sddlToSecurityDescriptor(sddl);
  assert.equal(securityDescriptorToSddl(compiled), sddl);
  const shuffled = 'S:P(AU;FASA;1;;;WD)(ML;;NW;;;HI)D:AIARP(D;IDIONPCIOI;3;;;S-1-1-0)G:SYO:BA';
  assert.deepEqual(sddlToSecurityDescriptor(shuffled), compiled);
});

test('[ACL-93] rights are hex, decimal or letters, always unsigned', () => {
  const mask = (rights: string) =>
    parseSecurityDescriptor(sddlToSecurityDescriptor(`O:SYD:(A;;${rights};;;SY)`)).dacl?.aces[0]?.mask;
  assert.equal(mask('GR'), 0x80000000);
  assert.equal(mask('GAGRGWGX'), 0xf0000000);
  assert.equal(mask('SDRCWDWO'), 0x000f0000);
  assert.equal(mask('CCDC'), 3);
  assert.equal(mask('0x20001'), 0x20001);
  assert.equal(mask('17'), 17);
  assert.equal(mask(''), 0);
});

test('[ACL-92] [ACL-94] mistakes are refused at their position', () => {
  const cases: [string, number, RegExp][] = [
    ['X:SY', 0, /expected "O:"/],
    ['O:ZZ', 2, /unknown SID "ZZ"/],
    ['O:DA', 2, /unknown SID "DA"/],
    ['O:SYO:SY', 4, /twice/],
    ['O:SYD:(Q;;0x1;;;SY)', 7, /unknown ACE type "Q"/],
    ['O:SYD:(A;QQ;0x1;;;SY)', 9, /unknown ACE flag "QQ"/],
    ['O:SYD:(A;;QQ;;;SY)', 10, /unknown access right "QQ"/],
    ['O:SYD:(A;;0x1;;;SY', 18, /expected "\)"/],
    ['O:SYD:(A;;0x1;;SY)', 17, /expected ";"/],
    ['O:SYD:(A;;0x1;341d2267-b9db-536b-b36c-94ab6cd47e4c;;SY)', 14, /takes no GUID/],
    ['O:SYD:(OA;;0x1;{341d2267-b9db-536b-b36c-94ab6cd47e4c};;SY)', 15, /no braces/],
    ['O:SYD:(OA;;0x1;341d2267;;SY)', 15, /5 groups/],
    ['O:SYD:(A;;0x1FFFFFFFF;;;SY)', 10, /32 bits/],
    ['O:SYD:(A;;0x1;;;SY) ', 19, /expected "O:"/],
    ['O:SYD:(XA;;0x1;;;SY;(a == ))', 26, /expected/],
    ['O:S-1-5-4294967296', 2, /32-bit/],
  ];
  for (const [text, offset, reason] of cases) {
    const error = failure(text);
    assert.match(error.reason, reason, text);
    assert.equal(error.offset, offset, text);
  }
});

test('[ACL-62] SIDs convert both ways, with a big-endian authority and unsigned parts', () => {
  assert.equal(hex(parseSid('S-1-5-32-544')), '01020000000000052000000020020000');
  assert.equal(formatSid(makeSid(22n, [1, 4294967294])), 'S-1-22-1-4294967294');
  assert.equal(formatSid(parseSid('S-1-0x123456789abc-7')), 'S-1-0x123456789abc-7');
  assert.equal(formatSid(makeSid(0xffffffffn, [])), 'S-1-4294967295');
  assert.equal(formatSidShort(sidOfUid(0)), 'SY');
  assert.equal(formatSid(sidOfUid(4294967294)), 'S-1-22-1-4294967294');
  assert.equal(formatSid(sidOfGid(100)), 'S-1-22-2-100');
  for (const [alias, text] of SID_ALIASES) assert.equal(formatSidShort(parseSid(text)), alias);
  assert.throws(() => parseSid('S-2-5'), { code: 'ERR_SID' });
  assert.throws(() => parseSid(`S-1-5${'-1'.repeat(16)}`), { code: 'ERR_SID' });
});

test('[ACL-9] [ACL-64] malformed descriptors are refused', () => {
  const good = bytes(EVENTS_DEFAULT);
  const broken: [string, (sd: Uint8Array) => Uint8Array][] = [
    ['too short', (sd) => sd.subarray(0, 19)],
    ['revision', (sd) => sd.fill(2, 0, 1)],
    ['self-relative', (sd) => sd.fill(0, 3, 4)],
    ['owner in the header', (sd) => sd.fill(8, 4, 5)],
    ['owner out of bounds', (sd) => sd.fill(0xff, 4, 6)],
    ['owner and group overlap', (sd) => sd.fill(0x14, 8, 9)],
    ['DACL bit without offset', (sd) => sd.fill(0, 16, 20)],
    ['DACL offset without bit', (sd) => sd.fill(0, 2, 3)],
    ['SACL bit without offset', (sd) => sd.fill(0x14, 2, 3)],
    ['ACL past the end', (sd) => sd.fill(0x35, 46, 47)],
    ['ACL shorter than its ACEs', (sd) => sd.fill(0x30, 46, 47)],
    ['more ACEs than there are', (sd) => sd.fill(3, 48, 49)],
    ['ACE size no multiple of four', (sd) => sd.fill(0x15, 54, 55)],
    ['ACE size zero', (sd) => sd.fill(0, 54, 55)],
    ['reserved mask bit', (sd) => sd.fill(0x20, 58, 59)],
    ['SID count past the ACE', (sd) => sd.fill(9, 61, 62)],
  ];
  assert.doesNotThrow(() => parseSecurityDescriptor(good));
  for (const [name, spoil] of broken) {
    assert.throws(() => parseSecurityDescriptor(spoil(good.slice())), { code: 'ERR_SD' }, name);
  }
  assert.throws(() => parseSecurityDescriptor(new Uint8Array(65536)), { code: 'ERR_SD' });
});

test('[ACL-68] MAXIMUM_ALLOWED and reserved bits are refused in SDDL, too', () => {
  for (const mask of ['0x2000000', '0x200000', '0x4000000']) failure(`O:SYD:(A;;${mask};;;SY)`);
});

test('[ACL-67] unknown ACE types survive byte for byte', () => {
  const acl = '04001c00 02000000 77010800deadbeef 77000c0001020304 05060708';
  const sd = bytes(`01000480 14000000 00000000 00000000 20000000 ${SYSTEM} ${acl}`);
  const parsed = parseSecurityDescriptor(sd);
  assert.equal(parsed.dacl?.aces[0]?.shape, 'unknown');
  assert.deepEqual(buildSecurityDescriptor(parsed), sd);
  assert.throws(() => securityDescriptorToSddl(sd), { code: 'ERR_SDDL', message: /0x77/ });
});

test('[ACL-64] no input makes the parser fail in an unforeseen way', () => {
  const good = bytes(EVENTS_DEFAULT);
  for (let offset = 0; offset < good.length; offset++) {
    for (const byte of [0, 1, 0x7f, 0x80, 0xff]) {
      const spoiled = good.slice();
      spoiled[offset] = byte;
      try {
        securityDescriptorToSddl(spoiled);
      } catch (error) {
        assert.ok(
          error instanceof Error && 'code' in error && /^ERR_SD/.test(String(error.code)),
          String(error),
        );
      }
    }
  }
});
