/** What a Linux user would ask instead: the sqlite3 shell over the same files, and journalctl. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import { installed } from '../records/processes.js';

/** Ms and what was printed, in lines. */
export interface PeerRun {
  readonly ms: number;
  readonly lines: number;
}

/** Runs a program to its end, counting the lines it prints. @throws Error when it fails */
export async function linesOf(program: string, args: readonly string[]): Promise<PeerRun> {
  const started = performance.now();
  const child = spawn(program, [...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let lines = 0;
  let complaint = '';
  child.stdout.on('data', (chunk: Buffer) => {
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) lines++;
  });
  child.stderr.on('data', (chunk: Buffer) => {
    complaint = `${complaint}${chunk.toString()}`.slice(-1000);
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`${program}: ${complaint.trim()}`);
  return { ms: performance.now() - started, lines };
}

/** The sqlite3 shell, one process per database, all at once; null when it is not installed. */
export function sqliteShell(): ((paths: readonly string[], sql: string) => Promise<PeerRun>) | null {
  const program = installed('sqlite3');
  if (program === null) return null;
  return async (paths, sql) => {
    const started = performance.now();
    const runs = await Promise.all(paths.map((path) => linesOf(program, ['-readonly', path, sql])));
    return { ms: performance.now() - started, lines: runs.reduce((sum, run) => sum + run.lines, 0) };
  };
}

/** A journal with the first `records` events of a shard; null when the programs for it are not installed. */
export async function eventJournal(
  directory: string,
  shard: string,
  records: number,
): Promise<(() => Promise<PeerRun>) | null> {
  const importer = installed('systemd-journal-remote');
  const reader = installed('journalctl');
  if (importer === null || reader === null) return null;
  const journal = join(directory, `journal-${records}`);
  const mark = join(directory, `journal-${records}-complete`);
  if (!existsSync(mark)) {
    rmSync(journal, { recursive: true, force: true });
    mkdirSync(journal);
    await importEvents(importer, journal, shard, records);
    writeFileSync(mark, '');
  }
  return () => linesOf(reader, ['--directory', journal, '--quiet', '--output', 'json']);
}

interface StoredEvent {
  readonly boot_id: Buffer;
  readonly timestamp: number;
  readonly cpu_id: number;
  readonly sequence: number;
  readonly origin_class: number;
  readonly event_type: string;
  readonly effective_token_guid: Buffer;
  readonly true_token_guid: Buffer;
  readonly process_guid: Buffer;
  readonly payload: Buffer;
}

async function importEvents(
  importer: string,
  journal: string,
  shard: string,
  records: number,
): Promise<void> {
  const child = spawn(importer, ['--split-mode=none', `--output=${join(journal, 'events.journal')}`, '-'], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const closed = once(child, 'close');
  const db = new Database(shard, { readonly: true });
  try {
    const rows = db.prepare('SELECT * FROM events ORDER BY id LIMIT ?').iterate(records);
    let text = '';
    for (const row of rows) {
      text += journalEntry(row as StoredEvent);
      if (text.length < 1 << 18) continue;
      if (!child.stdin.write(text)) await once(child.stdin, 'drain');
      text = '';
    }
    child.stdin.end(text);
  } finally {
    db.close();
  }
  const [code] = await closed;
  if (code !== 0) throw new Error(`systemd-journal-remote ended with ${code}`);
}

/** In the journal's export format: every column and every payload field is a field of the entry. */
function journalEntry(event: StoredEvent): string {
  const { boot_id, timestamp, payload, ...columns } = event;
  const micros = Math.floor(timestamp / 1000);
  const fields: Record<string, unknown> = {
    __REALTIME_TIMESTAMP: micros,
    __MONOTONIC_TIMESTAMP: micros,
    _BOOT_ID: boot_id,
    ...columns,
    ...(decode(payload) as Record<string, unknown>),
  };
  const lines = Object.entries(fields).map(
    ([name, value]) => `${name.toUpperCase()}=${journalValue(value)}\n`,
  );
  return `${lines.join('')}\n`;
}

function journalValue(value: unknown): string {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
