/** kmesd as a process that is killed and started again, also on a machine with little time for it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { EmitClient, EmitError } from '../../src/kmesd/emitClient.js';
import { isRoot, ordinary } from '../fixtures/kmesd.js';
import { programPath } from '../fixtures/runProgram.js';

const START_MS = 120_000;
const POLL_MS = 10;

export interface KmesdOptions {
  readonly directory: string;
  readonly boot: string;
  readonly rings: number;
  readonly capacity: number;
}

export class KmesdProcess {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  #stderr = '';

  private constructor(options: KmesdOptions) {
    const { directory, boot, rings, capacity } = options;
    this.#child = spawn(
      process.execPath,
      [
        programPath('kmesd'),
        ...['--kmes', directory, '--no-kmsg', '--no-process'],
        ...['--cpus', String(rings), '--capacity', String(capacity)],
        ...(isRoot ? [] : ['--admin-group', String(ordinary.gid)]),
      ],
      { env: { PATH: process.env.PATH, PEIOS_BOOT_ID: boot }, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    this.#exited = once(this.#child, 'exit');
  }

  /** Resolves when it answers on its socket. */
  static async start(options: KmesdOptions): Promise<KmesdProcess> {
    const kmesd = new KmesdProcess(options);
    const deadline = performance.now() + START_MS;
    while (!(await kmesd.#answers(join(options.directory, 'emit.sock')))) {
      if (kmesd.#child.exitCode !== null || kmesd.#child.signalCode !== null)
        throw new Error(`kmesd ended: ${kmesd.#stderr}`);
      if (performance.now() > deadline) {
        await kmesd.kill();
        throw new Error(`kmesd did not answer within ${START_MS} ms: ${kmesd.#stderr}`);
      }
      await pause(POLL_MS);
    }
    return kmesd;
  }

  /** kill -9 */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  /** The socket file of the one before may still be there. */
  async #answers(socket: string): Promise<boolean> {
    try {
      const client = await EmitClient.connect(socket);
      try {
        return (await client.status()).pid === this.#child.pid;
      } finally {
        client.close();
      }
    } catch (error) {
      if (error instanceof EmitError) return false;
      throw error;
    }
  }
}
