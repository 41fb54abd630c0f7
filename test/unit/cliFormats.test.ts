import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { parseJson, payloadFromJson } from '../../src/cli/jsonInput.js';
import { jsonLine } from '../../src/cli/jsonl.js';
import { PrettyPrinter } from '../../src/cli/pretty.js';
import { caretLines } from '../../src/cli/queryText.js';
import { paintFor, visible } from '../../src/cli/terminal.js';
import { timeText } from '../../src/cli/valueText.js';
import { EventRecord } from '../../src/wire/client.js';
import { decodeResponse, encodedRecord, encodeResult, type WireRecord } from '../../src/wire/messages.js';
import { MsgpackReader } from '../../src/wire/msgpackReader.js';

const T = 1_777_636_801_123_456_789n; // 2026-05-01T12:00:01.123456789Z

function record(fields: WireRecord): EventRecord {
  const response = decodeResponse(encodeResult([fields]).subarray(4), encodedRecord);
  assert.ok(response.status === 'ok' && response.records[0] !== undefined);
  return new EventRecord(response.records[0]);
}

const printer = () => new PrettyPrinter({ paint: (_, text) => text, local: false, full: false });
const pretty = (fields: WireRecord) => printer().line(record(fields)).trimEnd();

const synthetic = { timestamp: T, sequence: null, origin_class: null, effective_token_guid: null };

test('[QL-78] an event is one line: time, cpu/sequence, type, payload', () => {
  const line = pretty({
    timestamp: T,
    cpu_id: 3n,
    sequence: 18446744073709551615n,
    origin_class: 2n,
    event_type: 'kacs.denied',
    boot_id: '{x}',
    pid: 42n,
    path: '/etc/shadow',
    text: 'a b',
    nested: { deep: [1n, 2.5] },
  });
  assert.equal(
    line,
    '2026-05-01T12:00:01.123456Z  3/18446744073709551615  kacs.denied  pid=42 path=/etc/shadow text="a b" nested={deep=[1 2.5]}',
  );
});

test('[QL-78] columns of following lines stand below each other', () => {
  const shared = printer();
  const line = (type: string, sequence: bigint) =>
    shared.line(record({ timestamp: T, cpu_id: 0n, sequence, origin_class: 0n, event_type: type, a: 1n }));
  const first = line('a.long.type', 100n);
  const second = line('b', 1n);
  assert.equal(first.indexOf('a=1'), second.indexOf('a=1'));
});

test('[STO-8] [QL-47] a gap record is shown in its place and in a style of its own', () => {
  const fields = {
    ...synthetic,
    cpu_id: 0n,
    event_type: 'synthetic.gap',
    first_missing: 5n,
    last_missing: 124n,
    missing_count: 120n,
    cause: 'ring_loss',
  };
  assert.equal(
    pretty(fields),
    '2026-05-01T12:00:01.123456Z  ── gap cpu 0: 120 events lost (seq 5–124, ring_loss) ──',
  );
});

test('[STO-8] startup, shutdown, configuration changes and storage errors are recognisable', () => {
  assert.match(
    pretty({ ...synthetic, event_type: 'synthetic.startup', restart: true, shard_count: 2n, boot_id: '{b}' }),
    /── eventd started: restart in the same boot, shards 2, boot "?\{b\}"? ──$/,
  );
  assert.match(
    pretty({ ...synthetic, event_type: 'synthetic.shutdown', last_sequences: { 0: 7n } }),
    /── eventd stopped: last sequences \{"0"=7\} ──$/,
  );
  assert.match(
    pretty({
      ...synthetic,
      event_type: 'synthetic.config_change',
      key_name: 'MaxBatchSize',
      old_value: 1n,
      new_value: 2n,
    }),
    /── config MaxBatchSize: 1 → 2 ──$/,
  );
  assert.match(
    pretty({
      ...synthetic,
      event_type: 'synthetic.storage_error',
      store_type: 'event',
      shard_index: 1n,
      error: 'disk full',
    }),
    /── storage error, event store shard 1: "disk full" ──$/,
  );
});

test('[QL-45] a type synthetic.gap from userspace, or with unknown origin, is an ordinary event', () => {
  const forged = {
    timestamp: T,
    cpu_id: 0n,
    sequence: 9n,
    origin_class: 0n,
    event_type: 'synthetic.gap',
    missing_count: 5n,
  };
  assert.match(pretty(forged), /0\/9 {2}synthetic\.gap {2}missing_count=5$/);
  // Columns that are not shown (SELECT, access control) prove nothing.
  assert.doesNotMatch(pretty({ timestamp: T, event_type: 'synthetic.gap', missing_count: 5n }), /──/);
});

test('[QL-120] records of aggregations and of other modes are key=value lines', () => {
  assert.equal(pretty({ event_type: 'a.b', count: 3n }), 'event_type=a.b count=3');
  assert.equal(
    pretty({ timestamp: T, origin: 'loregd', message: 'up' }),
    '2026-05-01T12:00:01.123456Z  origin=loregd message=up',
  );
});

test('[QL-99] [QL-121] log records and samples have lines of their own', () => {
  const log = { timestamp: T, origin: 'loregd', is_error: false, message: 'up', boot_id: '{x}' };
  assert.equal(pretty(log), '2026-05-01T12:00:01.123456Z  loregd   up');
  assert.equal(
    pretty({ ...log, is_error: true, message: 'a\u001b[31mb' }),
    '2026-05-01T12:00:01.123456Z  loregd ! a\\u{1b}[31mb',
  );
  const sample = { timestamp: T, name: 'cpu.usage', core: '0', host: 'a"b', value: 20.5 };
  assert.equal(pretty(sample), '2026-05-01T12:00:01.123456Z  cpu.usage{core="0",host="a\\"b"}  20.5');
  const value = { boundaries: [0.5, 1], counts: [3n, 4n], total_count: 5n, sum: 3.25 };
  assert.equal(
    pretty({ timestamp: T, name: 'req.time', value }),
    '2026-05-01T12:00:01.123456Z  req.time  5 observed, sum 3.25: 3 ≤ 0.5, 4 ≤ 1',
  );
});

test('[QL-121] a log message of several lines stands below its beginning, and cannot forge a record', () => {
  const log = { timestamp: T, origin: 'loregd', is_error: false, boot_id: '{x}' };
  const message = 'first\r\n2026-05-01T12:00:01.123456Z  peinit   forged\n\tthird\u001b\n';
  assert.equal(
    pretty({ ...log, message }),
    [
      '2026-05-01T12:00:01.123456Z  loregd   first',
      '                                    │ 2026-05-01T12:00:01.123456Z  peinit   forged',
      '                                    │ \\tthird\\u{1b}',
    ].join('\n'),
  );
  const long = Array.from({ length: 60 }, (_, i) => `l${i}`).join('\n');
  const shown = pretty({ ...log, message: long }).split('\n');
  assert.deepEqual([shown.length, shown.at(-1)?.trim()], [51, '│ … 10 more lines, see --full']);
});

test('[QL-120] long values are cut, and whole with --full', () => {
  const fields = { a: 'x'.repeat(500), b: Array.from({ length: 40 }, () => 1n) };
  assert.match(pretty(fields), /^a="x{240}…" b=\[(?:1 ){32}…\]$/);
  const full = new PrettyPrinter({ paint: (_, text) => text, local: false, full: true });
  assert.match(full.line(record(fields)).trimEnd(), /^a=x{500} b=\[(?:1 ){39}1\]$/);
});

test('[QL-99] [QL-78] the records of one message have their columns below each other', () => {
  const series = (name: string) => record({ timestamp: T, name, value: 1.5 });
  const [first = '', second = ''] = printer()
    .message([series('a'), series('a.longer.name')])
    .split('\n');
  assert.equal(first.indexOf('1.5'), second.indexOf('1.5'));
  const event = (event_type: string) =>
    record({ timestamp: T, cpu_id: 0n, sequence: 1n, origin_class: 0n, event_type, a: 1n });
  const [third = '', fourth = ''] = printer()
    .message([event('界'), event('long.type')])
    .split('\n');
  assert.equal(third.indexOf('a=1') + 1, fourth.indexOf('a=1'));
});

test('[QL-120] nothing a record holds reaches the terminal as a control or direction character', () => {
  const evil = '\u001b]0;owned\u0007\u009b31m\r\n\u202eabc\u2066\u0000';
  const fields = {
    timestamp: T,
    cpu_id: 0n,
    sequence: 1n,
    origin_class: 0n,
    event_type: evil,
    [evil]: { [evil]: [evil] },
  };
  const gap = { ...synthetic, event_type: 'synthetic.gap', cause: evil, cpu_id: evil };
  for (const text of [pretty(fields), pretty(gap), jsonLine(record(fields)).trimEnd(), visible(evil)])
    assert.doesNotMatch(text, /[\p{Cc}\p{Cf}]/u);
  assert.equal(visible('a\nb\u001b'), 'a\\nb\\u{1b}');
});

test('[QL-120] strings that look like other values are quoted', () => {
  assert.equal(
    pretty({ a: '5', b: 5n, c: 'true', d: true, e: '', f: 'null', g: null, h: new Uint8Array([1]) }),
    'a="5" b=5 c="true" d=true e="" f="null" g=null h=bin:AQ==',
  );
});

test('[WIRE-10] jsonl keeps every digit, tells floats from integers and shows what JSON cannot say', () => {
  const line = jsonLine(
    record({
      big: 18446744073709551615n,
      low: -9223372036854775808n,
      whole: 1,
      half: 0.5,
      negative: -0,
      nan: Number.NaN,
      inf: Number.NEGATIVE_INFINITY,
      bin: new Uint8Array([1, 2, 255]),
      map: { $bin: 'x', a: [null, false] },
    }),
  );
  assert.equal(
    line,
    '{"big":18446744073709551615,"low":-9223372036854775808,"whole":1.0,"half":0.5,"negative":-0.0,"nan":{"$float":"NaN"},"inf":{"$float":"-Infinity"},"bin":{"$bin":"AQL/"},"map":{"$$bin":"x","a":[null,false]}}\n',
  );
  JSON.parse(line);
});

test('[WIRE-10] jsonl shows extensions and keys that are no strings', () => {
  const raw = Uint8Array.from([0x82, 0xa1, 0x65, 0xd4, 0x07, 0x09, 0xa1, 0x6d, 0x81, 0x05, 0xc3]);
  assert.equal(jsonLine(new EventRecord(raw)), '{"e":{"$ext":7,"$bin":"CQ=="},"m":{"$5":true}}\n');
});

test('[WIRE-10] jsonl keeps keys apart that differ in their type alone, or look like one another', () => {
  const keys = [
    1n,
    1,
    '1',
    true,
    'true',
    null,
    'null',
    '$1',
    '$$1',
    '$null',
    [1n],
    '[1]',
    -0.5,
    new Uint8Array([1]),
  ];
  const pairs = keys.flatMap((key) =>
    [key, 1].map((value) => encode(value, { useBigInt64: true, forceIntegerToFloat: true })),
  );
  const raw = Buffer.concat([Uint8Array.of(0x81, 0xa1, 0x6d, 0x80 | keys.length), ...pairs]);
  const line = jsonLine(new EventRecord(raw));
  const written = [...line.matchAll(/"((?:[^"\\]|\\.)*)":1\.0/g)].map(([, key]) => JSON.parse(`"${key}"`));
  assert.deepEqual(written, [
    '$1',
    '$1.0',
    '1',
    '$true',
    'true',
    '$null',
    'null',
    '$$1',
    '$$$1',
    '$$null',
    '$[1]',
    '[1]',
    '$-0.5',
    '$'.concat('{"$bin":"AQ=="}'),
  ]);
});

test('[QL-12] times before 1970 and beyond what a Date holds are shown, not thrown', () => {
  assert.equal(timeText(0n, false), '1970-01-01T00:00:00.000000Z');
  assert.equal(timeText(-1n, false), '1969-12-31T23:59:59.999999Z');
  assert.equal(timeText(2n ** 63n - 1n, false), '2262-04-11T23:47:16.854775Z');
  assert.equal(timeText(2n ** 64n * 1000n, false), `${2n ** 64n * 1000n}ns`);
});

test('[WIRE-20] the caret stands below the character of a parse error, also in a later line', () => {
  assert.deepEqual(caretLines('EVENTS WERE a', 8), ['  EVENTS WERE a', '         ^']);
  assert.deepEqual(caretLines('EVENTS\n\tTAKE x', 14), ['   TAKE x', '        ^']);
  assert.deepEqual(caretLines('EVENTS "😀" x', 12), ['  EVENTS "😀" x', '              ^']);
  assert.deepEqual(caretLines('EVENTS WHERE 名前 = 1', 17), [
    '  EVENTS WHERE 名前 = 1',
    '                    ^',
  ]);
  const [line = '', caret = ''] = caretLines(`EVENTS ${'a'.repeat(500)}!${'b'.repeat(500)}`, 508);
  assert.equal(line[caret.indexOf('^')], '!');
  assert.ok(line.length < 160);
});

test('[WIRE-20] colours only on a terminal, and never against NO_COLOR', () => {
  assert.notEqual(paintFor(true, 'auto', {})('red', 'x'), 'x');
  for (const paint of [
    paintFor(false, 'auto', {}),
    paintFor(true, 'never', {}),
    paintFor(true, 'auto', { NO_COLOR: '1' }),
    paintFor(true, 'auto', { TERM: 'dumb' }),
  ])
    assert.equal(paint('red', 'x'), 'x');
  assert.notEqual(paintFor(false, 'always', { NO_COLOR: '1' })('red', 'x'), 'x');
});

test('[HOST-76] JSON integers of 64 bits survive into the payload, in their smallest form', () => {
  const value = (json: string) => new MsgpackReader(payloadFromJson(json)).value();
  assert.equal(value('18446744073709551615'), 2n ** 64n - 1n);
  assert.equal(value('-9223372036854775808'), -(2n ** 63n));
  assert.equal(value('9007199254740993'), 9007199254740993n);
  assert.equal(value('5000000000'), 5000000000n);
  assert.equal(value('1.0'), 1n);
  assert.equal(value('0.5'), 0.5);
  assert.equal(value('1e300'), 1e300);
  assert.deepEqual(payloadFromJson('{"a":5}'), encode({ a: 5 }));
  assert.deepEqual(
    value('{"__proto__":{"x":[1,"\\u00fc"]}}'),
    new Map([['__proto__', new Map([['x', [1n, 'ü']]])]]),
  );
});

test('[HOST-76] what is no JSON is refused with its place', () => {
  for (const [text, message] of [
    ['', 'JSON value expected at character 1'],
    ['{"a":}', 'JSON value expected at character 6'],
    ['{a:1}', 'key in double quotes expected at character 2'],
    ['[1 2]', "',' expected at character 4"],
    ['01', 'unexpected text after the JSON value at character 2'],
    ['"a', 'string is not closed at character 1'],
    ['"\\x"', 'string has a bad escape or a raw control character at character 1'],
    ['"\\ud800"', 'string has half a surrogate pair at character 1'],
    ['18446744073709551616', 'integer does not fit into 64 bits at character 1'],
    ['1e999', 'number is too large for a double at character 1'],
    ['['.repeat(33), 'nesting deeper than 32 at character 33'],
  ] as const)
    assert.throws(() => parseJson(text), { message });
});
