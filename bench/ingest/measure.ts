/** Runs a program and watches its memory from outside, the same way for every variant. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

const SAMPLE_MS = 20;

export interface Measured<Result> {
  readonly result: Result;
  /** Most resident bytes seen, pages of shared ring mappings not counted. */
  readonly peakBytes: number;
}

/** @throws Error when the program fails or prints no JSON line. */
export async function measure<Result>(program: string, args: readonly string[]): Promise<Measured<Result>> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let complaint = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  child.stderr.on('data', (chunk) => {
    complaint += chunk;
  });
  let peakBytes = 0;
  const sampler = setInterval(() => {
    peakBytes = Math.max(peakBytes, ownResidentBytes(child.pid));
  }, SAMPLE_MS);
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    if (code !== 0) throw new Error(`${program} ended with code ${code}: ${complaint.trim()}`);
  } finally {
    clearInterval(sampler);
  }
  return { result: JSON.parse(output) as Result, peakBytes };
}

function ownResidentBytes(pid: number | undefined): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0);
    return (kib('RssAnon') + kib('RssFile')) * 1024;
  } catch {
    return 0; // It has ended already.
  }
}
