/** What a Linux user has instead of the log path: rsyslog and systemd-journald, each in its own corner. */

import { execFile } from 'node:child_process';
import { createReadStream, existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { buildProgram } from '../ingest/insertLoop.js';
import { bytesBelow, cpuSeconds, installed, Peer, printed } from './processes.js';
import type { Figure } from './report.js';

export interface Lines {
  readonly lines: number;
  readonly origins: number;
  /** Bytes of a message. */
  readonly message: number;
}

/** Stores so many lines in a fresh directory. @throws Error when it did not store them all */
export type LinePeer = (directory: string, lines: Lines) => Promise<Figure>;

const QUIET_MS = 500;
const DEADLINE_MS = 20_000;
const POLL_MS = 5;

async function sendLines(socket: string, format: 'syslog' | 'journal', lines: Lines): Promise<void> {
  const program = await buildProgram('line_sender');
  const numbers = [lines.lines, lines.origins, lines.message].map(String);
  await printed(program, [socket, format, ...numbers]);
}

async function appears(path: string, peer: Peer): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  while (!existsSync(path)) {
    peer.check();
    if (performance.now() > deadline) throw new Error(`${path} does not appear`);
    await pause(POLL_MS);
  }
}

/** When a file last grew, once it has stopped; ms of the monotonic clock. */
async function stoppedGrowing(path: string): Promise<number> {
  const size = () => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  let last = size();
  let at = performance.now();
  while (performance.now() - at < QUIET_MS) {
    await pause(POLL_MS);
    const now = size();
    if (now !== last) at = performance.now();
    last = now;
  }
  return at;
}

async function linesIn(path: string): Promise<number> {
  let lines = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>)
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) lines++;
  return lines;
}

/** Null when it is not installed. Input from a syslog socket, output to a file, no rate limits. */
export function rsyslog(): LinePeer | null {
  const program = installed('rsyslogd');
  if (program === null) return null;
  return async (directory, lines) => {
    const socket = join(directory, 'syslog.sock');
    const file = join(directory, 'lines.log');
    const config = join(directory, 'rsyslog.conf');
    writeFileSync(
      config,
      [
        `global(workDirectory="${directory}")`,
        'module(load="imuxsock" SysSock.Use="off")',
        `input(type="imuxsock" Socket="${socket}" RateLimit.Interval="0")`,
        `action(type="omfile" file="${file}" template="RSYSLOG_FileFormat")`,
        '',
      ].join('\n'),
    );
    const peer = new Peer(program, ['-n', '-f', config, '-i', join(directory, 'pid')]);
    try {
      await appears(socket, peer);
      const cpuBefore = cpuSeconds(peer.pid);
      const started = performance.now();
      await sendLines(socket, 'syslog', lines);
      const ended = await stoppedGrowing(file);
      const cpu = cpuSeconds(peer.pid) - cpuBefore;
      await peer.stop();
      const stored = (await linesIn(file)) - (await ownLines(file));
      if (stored !== lines.lines) throw new Error(`rsyslog stored ${stored} of ${lines.lines} lines`);
      return {
        perSecond: (stored * 1000) / (ended - started),
        cpuMicros: (cpu / stored) * 1e6,
        bytesPerRecord: statSync(file).size / stored,
      };
    } finally {
      await peer.stop();
    }
  };
}

/** What rsyslog says itself. */
async function ownLines(file: string): Promise<number> {
  return new Promise((resolve, reject) => {
    execFile('grep', ['-c', ' rsyslogd: ', file], (error, stdout) => {
      // grep ends with 1 when it finds nothing.
      if (error === null || error.code === 1) resolve(Number(stdout));
      else reject(error);
    });
  });
}

const JOURNALD_CONFIG = [
  '[Journal]',
  'Storage=persistent',
  'RateLimitIntervalSec=0',
  'RateLimitBurst=0',
  'SystemMaxUse=8G',
  'ForwardToSyslog=no',
  'ForwardToWall=no',
  'ReadKMsg=no',
  'Audit=no',
  '',
].join('\n');

/** In its own mount namespace the journal of the machine is out of its sight; the mounts end with it. */
const JOURNALD_START = [
  'mount --make-rprivate /',
  'mount --bind "$1/log" /var/log',
  'mount --bind "$1/etc" /etc/systemd',
  'mount --bind "$1/run" /run',
  'exec "$2"',
].join(' && ');

/** Null when it is not installed, or may not have a mount namespace. Lines come by its native protocol. */
export function journald(): LinePeer | null {
  const program = installed('systemd-journald');
  const [unshare, reader] = [installed('unshare'), installed('journalctl')];
  if (program === null || unshare === null || reader === null || process.getuid?.() !== 0) return null;
  return async (directory, lines) => {
    for (const part of ['log/journal', 'etc', 'run/systemd/journal'])
      mkdirSync(join(directory, part), { recursive: true });
    writeFileSync(join(directory, 'etc/journald.conf'), JOURNALD_CONFIG);
    // Without this mark of a mounted /var it would write to memory only.
    writeFileSync(join(directory, 'run/systemd/journal/flushed'), '');
    const socket = join(directory, 'run/systemd/journal/socket');
    const peer = new Peer(unshare, ['-m', 'sh', '-c', JOURNALD_START, 'sh', directory, program]);
    try {
      await appears(socket, peer);
      const cpuBefore = cpuSeconds(peer.pid);
      const started = performance.now();
      // What the blocking sender could send is stored, but for the few in the socket's queue.
      await sendLines(socket, 'journal', lines);
      const seconds = (performance.now() - started) / 1000;
      const cpu = cpuSeconds(peer.pid) - cpuBefore;
      const journal = join(directory, 'log/journal');
      const stored = await journalLines(reader, journal, lines.lines);
      if (stored !== lines.lines) throw new Error(`journald stored ${stored} of ${lines.lines} lines`);
      await peer.stop();
      return {
        perSecond: stored / seconds,
        cpuMicros: (cpu / stored) * 1e6,
        bytesPerRecord: bytesBelow(journal) / stored,
      };
    } finally {
      await peer.stop();
    }
  };
}

/** Polls until journald has stored them, or the deadline. */
async function journalLines(reader: string, journal: string, expected: number): Promise<number> {
  const deadline = performance.now() + DEADLINE_MS;
  const command = '"$1" --directory "$(echo "$2"/*)" --quiet --output cat _TRANSPORT=journal | wc -l';
  for (;;) {
    const lines = await printed<number>('sh', ['-c', command, 'sh', reader, journal]);
    if (lines >= expected || performance.now() > deadline) return lines;
    await pause(100);
  }
}
