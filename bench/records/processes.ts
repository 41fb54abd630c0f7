/** Programs a benchmark starts beside eventd: run to the end, or kept until they are told to stop. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { accessSync, constants, readdirSync, readFileSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** A program that prints one JSON line. */
export function printed<Result>(
  program: string,
  args: readonly string[],
  timeoutMs = 300_000,
): Promise<Result> {
  return new Promise((resolve, reject) => {
    execFile(program, [...args], { timeout: timeoutMs }, (error, stdout, stderr) => {
      if (error === null) resolve(JSON.parse(stdout) as Result);
      else reject(new Error(`${program}: ${stderr.trim() || error.message}`));
    });
  });
}

/** Where a program is, looked for where system programs are, too; null when it is not installed. */
export function installed(name: string): string | null {
  const places = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin', '/lib/systemd'];
  for (const place of places) {
    const path = join(place, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there.
    }
  }
  return null;
}

/** A daemon of somebody else's, for the time of one measurement. */
export class Peer {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #complaint = '';

  constructor(program: string, args: readonly string[]) {
    this.#child = spawn(program, [...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.pid = this.#child.pid ?? -1;
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#complaint = `${this.#complaint}${text}`.slice(-4000);
    });
    this.#ended = new Promise((resolve) => {
      this.#child.once('error', () => resolve());
      this.#child.once('close', () => resolve());
    });
  }

  /** @throws Error when it has ended by itself */
  check(): void {
    if (this.#child.exitCode === null && this.#child.signalCode === null) return;
    throw new Error(`it ended by itself: ${this.#complaint.trim()}`);
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    const impatient = setTimeout(() => this.#child.kill('SIGKILL'), 20_000);
    await this.#ended;
    clearTimeout(impatient);
  }
}

/** The kernel counts processor time in hundredths of a second for user space, on every architecture. */
const TICKS_PER_SECOND = 100;

/** Processor time of all threads of a process so far, s. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Bytes that the files below a directory take on the disk. */
export function bytesBelow(directory: string): number {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).blocks * 512, 0);
}
