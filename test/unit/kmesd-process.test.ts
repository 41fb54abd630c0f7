import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode } from '@msgpack/msgpack';
import { parseGuid } from '../../src/host/guid.js';
import { IdentityStamps, readProcessStat } from '../../src/kmesd/identity.js';
import { decodeProcessEvents, waitStatus } from '../../src/kmesd/processEvents.js';
import { MAX_ARGV_BYTES, MAX_ARGV_COUNT, splitArguments } from '../../src/kmesd/processInfo.js';
import { ProcessSource } from '../../src/kmesd/processSource.js';
import type { Ring } from '../../src/kmesd/rings.js';
import type { ProducerIdentity } from '../../src/native/addon.js';

interface Written {
  readonly type: string;
  readonly payload: Record<string, unknown>;
  readonly identity: ProducerIdentity | null;
}

const stamps = new IdentityStamps(parseGuid('{01020304-0506-0708-090a-0b0c0d0e0f10}'));
const quiet = { info: () => undefined, warn: () => undefined, error: (text: string) => assert.fail(text) };
const NOBODY = 2 ** 22 + 1;

function bench() {
  const written: Written[] = [];
  const ring: Ring = {
    cpu: 0,
    path: '',
    capacity: 65_536,
    status: () => assert.fail('not needed'),
    write(_origin, events, identity) {
      for (const { type, payload } of events) {
        written.push({
          type: Buffer.from(type).toString(),
          payload: decode(payload) as Record<string, unknown>,
          identity,
        });
      }
      return events.length;
    },
  };
  return { written, source: new ProcessSource(ring, stamps, quiet, () => 0) };
}

function records(...fields: readonly (readonly [kind: number, pid: number, status: number])[]): Uint8Array {
  const bytes = Buffer.alloc(fields.length * 16);
  for (const [index, [kind, pid, status]] of fields.entries()) {
    bytes.writeUInt32LE(kind, index * 16);
    bytes.writeUInt32LE(pid, index * 16 + 4);
    bytes.writeUInt32LE(status, index * 16 + 8);
  }
  return bytes;
}

test('wait statuses split into exit code and signal', () => {
  assert.deepEqual(waitStatus(3 << 8), { exitCode: 3, signal: null });
  assert.deepEqual(waitStatus(9), { exitCode: 0, signal: 9 });
  assert.deepEqual(waitStatus(0x8b), { exitCode: 0, signal: 11 }, 'the core dump bit is no signal');
});

test('records of unknown kind and a cut tail are skipped', () => {
  const bytes = records([1, 5, 0], [9, 6, 0], [2, 7, 256]);
  assert.deepEqual(decodeProcessEvents(bytes.subarray(0, bytes.length)), [
    { kind: 'exec', pid: 5 },
    { kind: 'exit', pid: 7, exitCode: 1, signal: null },
  ]);
  assert.equal(decodeProcessEvents(bytes.subarray(0, 17)).length, 1);
});

test('[HOST-77] an exec is described from /proc and stamped with the process it is about', () => {
  const { source, written } = bench();
  source.accept(records([1, process.pid, 0]), 0);
  const [event] = written;
  assert.equal(event?.type, 'linux.process.exec');
  assert.equal(event?.payload.pid, process.pid);
  assert.equal(event?.payload.ppid, process.ppid);
  assert.equal(event?.payload.uid, process.geteuid?.());
  assert.equal(event?.payload.exe, process.execPath);
  const { argv } = event?.payload ?? {};
  assert.ok(Array.isArray(argv));
  assert.equal(argv[0], process.argv0);
  assert.equal(event?.payload.command_line, argv.join(' '));
  const startTime = readProcessStat(process.pid)?.startTime ?? '';
  assert.deepEqual(event?.identity, stamps.of(process.geteuid?.() ?? -1, { pid: process.pid, startTime }));
});

test('[HOST-77] the exit carries the identity noted at exec, once', () => {
  const { source, written } = bench();
  source.accept(records([1, process.pid, 0], [2, process.pid, 2 << 8]), 0);
  assert.deepEqual(written[1]?.payload, { pid: process.pid, exit_code: 2, signal: null });
  assert.deepEqual(written[1]?.identity, written[0]?.identity);
});

test('[KMES-40] a process that is gone already is reported with the null identity', () => {
  const { source, written } = bench();
  source.accept(records([1, NOBODY, 0], [2, NOBODY, 9]), 0);
  assert.deepEqual(written[0]?.payload, {
    pid: NOBODY,
    ppid: null,
    uid: null,
    comm: null,
    exe: null,
    argv: [],
    command_line: null,
  });
  assert.deepEqual(written[1]?.payload, { pid: NOBODY, exit_code: 0, signal: 9 });
  assert.deepEqual(written[1]?.identity?.process, new Uint8Array(16));
});

test('a storm is bounded per second and what is left out is counted', () => {
  const { source, written } = bench();
  const storm = records(...Array.from({ length: 2100 }, () => [2, NOBODY, 0] as const));
  source.accept(storm, 0);
  assert.equal(written.length, 2000);
  source.accept(records(), 3);
  source.stop();
  assert.deepEqual(written.at(-1)?.type, 'linux.process.lost');
  assert.deepEqual(written.at(-1)?.payload, { count: 100, overruns: 3 });
});

test('arguments are bounded in number and bytes', () => {
  assert.deepEqual(splitArguments(Buffer.from('ls\0-l\0\0')), {
    argv: ['ls', '-l', ''],
    commandLine: 'ls -l ',
    argvTruncated: false,
  });
  assert.deepEqual(splitArguments(Buffer.alloc(0)), { argv: [], commandLine: '', argvTruncated: false });
  const many = splitArguments(Buffer.from('a\0'.repeat(MAX_ARGV_COUNT + 1)));
  assert.deepEqual([many.argv.length, many.argvTruncated], [MAX_ARGV_COUNT, true]);
  assert.equal(many.commandLine.length, 2 * MAX_ARGV_COUNT - 1);
  const long = splitArguments(Buffer.alloc(MAX_ARGV_BYTES + 1, 'a'));
  assert.deepEqual([long.argv[0]?.length, long.argvTruncated], [MAX_ARGV_BYTES, true]);
  assert.equal(long.commandLine.length, MAX_ARGV_BYTES);
  const binary = splitArguments(Buffer.alloc(MAX_ARGV_BYTES, 0xff));
  assert.ok(Buffer.byteLength(binary.commandLine) < MAX_ARGV_BYTES + 3, 'what is no UTF-8 grows');
  assert.equal(binary.argvTruncated, true);
});
