import { closeSync, openSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import { readProcessStat } from './identity.js';

/** What /proc tells about a process right after exec. */
export interface ProcessInfo {
  readonly startTime: string;
  readonly parent: number;
  /** Effective uid. */
  readonly uid: number;
  readonly comm: string;
  /** Null for kernel threads and where it may not be read. */
  readonly exe: string | null;
  readonly argv: readonly string[];
  /** The arguments with spaces between them, unquoted. */
  readonly commandLine: string;
  /** True when the arguments were longer than what is kept. */
  readonly argvTruncated: boolean;
}

/** The part of it that the arguments make. */
type Arguments = Pick<ProcessInfo, 'argv' | 'commandLine' | 'argvTruncated'>;

const NO_ARGUMENTS: Arguments = { argv: [], commandLine: '', argvTruncated: false };

export const MAX_ARGV_BYTES = 4096;
export const MAX_ARGV_COUNT = 64;

/** Reads /proc/PID; null when the process is gone already. */
export function readProcessInfo(pid: number): ProcessInfo | null {
  const stat = readProcessStat(pid);
  const uid = readUid(pid);
  if (stat === null || uid === null) return null;
  return {
    startTime: stat.startTime,
    parent: stat.parent,
    uid,
    comm: Buffer.from(stat.comm, 'latin1').toString('utf8'),
    exe: readExe(pid),
    ...readArguments(pid),
  };
}

/** Effective uid of a process, or null when it is gone. */
export function readUid(pid: number): number | null {
  try {
    const match = /^Uid:\t[0-9]+\t([0-9]+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
    return match?.[1] === undefined ? null : Number(match[1]);
  } catch {
    return null;
  }
}

/** Splits NUL-terminated arguments, keeping at most MAX_ARGV_COUNT of them. */
export function splitArguments(bytes: Buffer): Arguments {
  const cut = bytes.length > MAX_ARGV_BYTES;
  const kept = bytes.subarray(0, MAX_ARGV_BYTES);
  const parts = kept.toString('utf8').split('\0');
  if (parts.at(-1) === '') parts.pop();
  const argv = parts.slice(0, MAX_ARGV_COUNT);
  const joined = Buffer.from(argv.join(' '));
  return {
    argv,
    // Bytes that are no UTF-8 take three each: without a bound, too, the event might not fit a small ring.
    commandLine: joined.toString('utf8', 0, MAX_ARGV_BYTES),
    argvTruncated: cut || parts.length > MAX_ARGV_COUNT || joined.length > MAX_ARGV_BYTES,
  };
}

function readExe(pid: number): string | null {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return null;
  }
}

function readArguments(pid: number): Arguments {
  let fd: number;
  try {
    fd = openSync(`/proc/${pid}/cmdline`, 'r');
  } catch {
    return NO_ARGUMENTS;
  }
  try {
    // One byte more than is kept tells whether there is more.
    const bytes = Buffer.alloc(MAX_ARGV_BYTES + 1);
    return splitArguments(bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, 0)));
  } catch {
    return NO_ARGUMENTS;
  } finally {
    closeSync(fd);
  }
}
