import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sddlToSecurityDescriptor } from '../../src/access/sddl.js';
import { Hive, MAX_HIVE_BYTES } from '../../src/registry/hive.js';
import { formatHiveData, parseHiveData } from '../../src/registry/hiveSyntax.js';
import { foldName, splitKeyPath } from '../../src/registry/names.js';
import {
  binaryData,
  decodeMultiSz,
  decodeSz,
  dwordData,
  multiSzData,
  qwordData,
  REG,
  szData,
} from '../../src/registry/value.js';

const FILE = '/etc/eventd/eventd.reg';
const KEY = 'Machine\\System\\eventd';

function parse(body: string): Hive {
  return Hive.parse(`PEIOS-REG 1\n${body}`, FILE);
}

function value(hive: Hive, name: string, key = KEY) {
  return hive.key(key)?.values.get(foldName(name));
}

test('[HOST-49] [HOST-29] every value form yields its typed bytes', () => {
  const hive = parse(`; a comment
[${KEY}]
"Text"="a \\"quoted\\" C:\\\\path" ; with a comment
@="unnamed"
"Dword"=dword:0000003C
"Qword"=qword:0000000280000000
"Hex" = hex:aa,0B, ff
"Empty"=hex:
"Multi"=multi:"boot", "net"
"Sd"=sddl:"O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;BA)"
"Expand"=hex(2):41,00
`);
  assert.deepEqual(value(hive, 'Text'), { name: 'Text', ...szData('a "quoted" C:\\path') });
  assert.deepEqual(value(hive, ''), { name: '', ...szData('unnamed') });
  assert.deepEqual(value(hive, 'Dword'), { name: 'Dword', type: 4, data: Uint8Array.of(60, 0, 0, 0) });
  assert.deepEqual(value(hive, 'Qword'), { name: 'Qword', ...qwordData(10n * 1024n ** 3n) });
  assert.deepEqual(value(hive, 'Hex')?.data, Uint8Array.of(0xaa, 0x0b, 0xff));
  assert.deepEqual(value(hive, 'Empty')?.data, new Uint8Array(0));
  assert.deepEqual(value(hive, 'Multi')?.data, Uint8Array.from(Buffer.from('boot\0net\0\0')));
  assert.deepEqual(value(hive, 'Sd'), {
    name: 'Sd',
    type: REG.BINARY,
    data: sddlToSecurityDescriptor('O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;BA)'),
  });
  assert.deepEqual(value(hive, 'Expand'), {
    name: 'Expand',
    type: REG.EXPAND_SZ,
    data: Uint8Array.of(0x41, 0),
  });
});

test('[HOST-49] mistakes name the file, the line and the column', () => {
  const cases: [string, string][] = [
    ['', `${FILE}:1:1: expected the first line "PEIOS-REG 1"`],
    ['PEIOS-REG 2\n', `${FILE}:1:1: expected the first line "PEIOS-REG 1"`],
    ['PEIOS-REG 1\n"a"=dword:00000001', `${FILE}:2:1: expected a [key] before the first value`],
    ['PEIOS-REG 1\n[a]\n"n"=dword:12', `${FILE}:3:11: expected 8 hex digits, found 2`],
    ['PEIOS-REG 1\n[a]\n"ü"=12', `${FILE}:3:5: expected "text", dword:, qword:, hex:, multi:, sddl: or -`],
    ['PEIOS-REG 1\n[a]\nname=1', `${FILE}:3:1: expected [key], "name"=, @= or a ; comment`],
    ['PEIOS-REG 1\n[a\n', `${FILE}:2:3: expected ]`],
    ['PEIOS-REG 1\n[a\\\\b]\n', `${FILE}:2:2: key path "a\\\\\\\\b" has an empty component`],
    ['PEIOS-REG 1\n[a\\]\n', `${FILE}:2:2: key path "a\\\\" has an empty component`],
    ['PEIOS-REG 1\n[a]\n"n="x"', `${FILE}:3:5: expected =`],
    ['PEIOS-REG 1\n[a]\n"n"="x', `${FILE}:3:5: the closing quote is missing`],
    ['PEIOS-REG 1\n[a]\n"n"="x\\n"', `${FILE}:3:7: expected \\\\ or \\" after a backslash`],
    ['PEIOS-REG 1\n[a]\n"n"="x" y', `${FILE}:3:9: expected the end of the line`],
    ['PEIOS-REG 1\n[a]\n"n"=multi:"a",""', `${FILE}:3:15: an empty text would end the list`],
    ['PEIOS-REG 1\n[a]\n"n"=sddl:"O:SYD:(A;;0x1;;;ZZ)"', `${FILE}:3:27: SDDL: unknown SID "ZZ"`],
  ];
  for (const [text, message] of cases)
    assert.throws(() => Hive.parse(text, FILE), { code: 'ERR_HIVE', message });
});

test('[HOST-49] a byte that is no UTF-8 is located', () => {
  const bytes = Buffer.concat([Buffer.from('PEIOS-REG 1\n[a]\n"n"="'), Buffer.of(0xff), Buffer.from('"\n')]);
  assert.throws(() => Hive.parse(bytes, FILE), { message: `${FILE}:3:6: expected UTF-8` });
});

test('[HOST-27] names, paths, values and the file have limits', () => {
  const long = 'n'.repeat(256);
  assert.throws(() => parse(`[${long}]`), /eventd\.reg:2:2: key name exceeds 255 bytes/);
  assert.throws(() => parse(`[a]\n"${long}"="x"`), /eventd\.reg:3:1: value name exceeds 255 bytes/);
  assert.ok(parse(`[a]\n"${'n'.repeat(255)}"="x"`));
  const path = Array.from({ length: 70 }, () => 'n'.repeat(250)).join('\\');
  assert.throws(() => splitKeyPath(path), { code: 'ENAMETOOLONG' });
  assert.throws(
    () => parse(`[a]\n"n"="${'x'.repeat(1024 * 1024)}"`),
    /eventd\.reg:3:5: value exceeds 1048576 bytes/,
  );
  assert.throws(() => Hive.parse(Buffer.alloc(MAX_HIVE_BYTES + 1), FILE), /exceeds/);
  const hive = parse('[a]\n');
  assert.throws(() => hive.withValue('a', 'n', binaryData(new Uint8Array(1024 * 1024 + 1))), {
    code: 'ENOSPC',
  });
});

test('[HOST-27] both separators are accepted, empty components are not', () => {
  assert.deepEqual(splitKeyPath('Machine/System\\eventd'), ['Machine', 'System', 'eventd']);
  for (const path of ['', '\\a', 'a\\', 'a//b', 'a\0b']) {
    assert.throws(() => splitKeyPath(path), { code: 'EINVAL' }, JSON.stringify(path));
  }
});

test('[HOST-28] [ACL-10] names keep their case and compare by simple case folding', () => {
  const hive = parse(`[${KEY}]\n"KACS.Denied"="x"\n"Größe"="y"\n`);
  assert.equal(value(hive, 'kacs.denied')?.name, 'KACS.Denied');
  assert.equal(value(hive, 'GRÖSSE'), undefined);
  assert.equal(value(hive, 'GRÖßE')?.name, 'Größe');
  assert.ok(hive.key('MACHINE/system/EVENTD'));
  for (const [a, b] of [
    ['Σ', 'ς'],
    ['K', '\u212a'],
    ['ſ', 'S'],
    ['ẞ', 'ß'],
    ['Ω', '\u2126'],
    ['\u{10400}', '\u{10428}'],
    ['ᾈ', 'ᾀ'],
  ] as const) {
    assert.equal(foldName(a), foldName(b), `${a} ${b}`);
  }
  for (const [a, b] of [
    ['ß', 'ss'],
    ['İ', 'i'],
    ['ı', 'i'],
    ['ﬁ', 'fi'],
  ] as const) {
    assert.notEqual(foldName(a), foldName(b), `${a} ${b}`);
  }
});

test('[HOST-28] value names may hold dots, stars and backslashes', () => {
  const hive = parse(`[${KEY}]\n"*"="a"\n"a.b\\\\c"="b"\n`);
  assert.ok(value(hive, '*'));
  assert.ok(value(hive, 'a.b\\c'));
});

test('[HOST-61] of duplicate names the last wins, with a warning', () => {
  const hive = parse(`[${KEY}]\n"A"=dword:00000001\n[other]\n[${KEY}]\n"a"=dword:00000002\n`);
  assert.deepEqual(value(hive, 'A'), { name: 'a', ...dwordData(2) });
  assert.deepEqual(hive.warnings, [`${FILE}:6:1: "a" was set on line 3 already; the last one wins`]);
});

test('[HOST-31] a deleted value reads as absent', () => {
  const hive = parse(`[${KEY}]\n"A"=dword:00000001\n"A"=-\n`);
  assert.equal(value(hive, 'A'), undefined);
  assert.deepEqual(hive.warnings, []);
});

const EDITABLE = `PEIOS-REG 1\r
; head\r
[${KEY}]\r
  "Known" = dword:00000001 ; why\r
"Unknown"=hex(63):01,02\r
\r
; tail\r
[Other]\r
"X"="y"`;

test('[HOST-60] changing a value touches nothing but its right-hand side', () => {
  const edited = Hive.parse(EDITABLE, FILE).withValue(KEY, 'KNOWN', dwordData(255));
  assert.equal(edited.toString(), EDITABLE.replace('dword:00000001', 'dword:000000ff'));
});

test('[HOST-60] a new value goes after the last one of its key, comments and order stay', () => {
  const edited = Hive.parse(EDITABLE, FILE).withValue(KEY, 'New', szData('v'));
  assert.equal(edited.toString(), EDITABLE.replace('01,02\r\n', '01,02\r\n"New"="v"\r\n'));
  const other = Hive.parse(EDITABLE, FILE).withValue('other', 'Z', szData('v'));
  assert.equal(other.toString(), `${EDITABLE}\r\n"Z"="v"\r\n`);
});

test('[HOST-60] deleting removes every line of the value and nothing else', () => {
  const text = EDITABLE.replace('; tail', '"known"=dword:00000009');
  const edited = Hive.parse(text, FILE).withoutValue(KEY, 'Known');
  assert.equal(
    edited.toString(),
    text.replace('  "Known" = dword:00000001 ; why\r\n', '').replace('"known"=dword:00000009\r\n', ''),
  );
  assert.equal(value(edited, 'Known'), undefined);
});

test('[HOST-32] a key needs its parent; creating an existing one changes nothing', () => {
  const hive = Hive.parse(EDITABLE, FILE);
  assert.throws(() => hive.withKey(`${KEY}\\Security\\Events`), { code: 'ENOENT' });
  const grown = hive.withKey(`${KEY}\\Security`).withKey(`${KEY}/Security/Events`);
  assert.ok(grown.toString().endsWith(`[${KEY}\\Security]\r\n[${KEY}\\Security\\Events]\r\n`));
  assert.equal(grown.withKey(`${KEY}\\SECURITY`), grown);
  assert.equal(hive.withKey('machine\\SYSTEM'), hive);
});

test('[HOST-38] editing what is not there answers ENOENT', () => {
  const hive = Hive.parse(EDITABLE, FILE);
  assert.throws(() => hive.withValue('No\\Such', 'a', dwordData(1)), { code: 'ENOENT' });
  assert.throws(() => hive.withoutValue(KEY, 'missing'), { code: 'ENOENT' });
});

test('[HOST-60] texts the quoted form cannot hold are written as bytes and read back', () => {
  const data = szData('two\nlines');
  const edited = Hive.parse(EDITABLE, FILE).withValue(KEY, 'T', data);
  assert.match(edited.toString(), /"T"=hex\(1\):74,77,6f,0a/);
  assert.deepEqual(value(edited, 'T'), { name: 'T', ...data });
  assert.throws(() => edited.withValue(KEY, 'a\nb', data), { code: 'EINVAL' });
});

test('[HOST-49] printing and reading a value is the identity', () => {
  const sd = sddlToSecurityDescriptor('O:SYG:SYD:P(A;CI;0x1;;;SY)');
  const samples = [
    szData(''),
    szData('a"\\b'),
    { type: REG.SZ, data: Uint8Array.of(0x41) },
    dwordData(0xffffffff),
    { type: REG.DWORD, data: Uint8Array.of(1, 2) },
    qwordData(0xffff_ffff_ffff_ffffn),
    multiSzData([]),
    multiSzData(['a', 'b']),
    binaryData(Uint8Array.of(1, 2, 3)),
    binaryData(sd),
    { type: REG.NONE, data: new Uint8Array(0) },
    { type: 0xffffffff, data: Uint8Array.of(9) },
  ];
  for (const sample of samples)
    assert.deepEqual(parseHiveData(formatHiveData(sample)), sample, formatHiveData(sample));
  assert.equal(formatHiveData(binaryData(sd)), 'sddl:"O:SYG:SYD:P(A;CI;0x1;;;SY)"');
});

test('[HOST-30] texts lose at most one closing NUL; anything else inside is invalid', () => {
  assert.equal(decodeSz(Uint8Array.from(Buffer.from('ab\0'))), 'ab');
  assert.equal(decodeSz(Uint8Array.from(Buffer.from('ab'))), 'ab');
  assert.equal(decodeSz(new Uint8Array(0)), '');
  assert.equal(decodeSz(Uint8Array.from(Buffer.from('ab\0\0'))), null);
  assert.equal(decodeSz(Uint8Array.of(0xff, 0)), null);
  assert.deepEqual(decodeMultiSz(Uint8Array.from(Buffer.from('a\0b\0\0'))), ['a', 'b']);
  assert.equal(decodeMultiSz(Uint8Array.from(Buffer.from('a\0b'))), null);
});
