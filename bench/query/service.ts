/** The query service of a data set, as a process that can be asked and watched. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { encodeRequest } from '../../src/wire/messages.js';
import { drain } from '../../test/fixtures/resultDrain.js';
import type { Dataset } from './dataset.js';

export class ServiceProcess {
  readonly socket: string;
  readonly pid: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, socket: string) {
    this.#child = child;
    this.pid = child.pid ?? -1;
    this.socket = socket;
  }

  /** Starts it; its worker threads run, and have no database open. */
  static async start(directory: string, { store, logPath, metricPath }: Dataset): Promise<ServiceProcess> {
    const socket = join(directory, 'query.sock');
    rmSync(socket, { force: true });
    const program = fileURLToPath(new URL('./server.js', import.meta.url));
    const child = spawn(process.execPath, [program, store, logPath, metricPath, socket], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await Promise.race([
      once(child.stdout, 'data'),
      once(child, 'close').then(() => {
        throw new Error('the query service did not start');
      }),
    ]);
    const service = new ServiceProcess(child, socket);
    // At once, so that each goes to a worker of its own.
    await Promise.all([1, 2].map(() => drain(socket, 'LOGS TAKE 1')));
    return service;
  }

  /** Ms from before the connection to the first bytes of the result, and to its end. */
  async timeOf(query: string): Promise<{ readonly first: number; readonly end: number }> {
    const started = performance.now();
    const socket = connect(this.socket);
    socket.write(encodeRequest(query));
    await once(socket, 'data');
    const first = performance.now() - started;
    socket.resume();
    await once(socket, 'close');
    return { first, end: performance.now() - started };
  }

  /** Runs the work and tells by how many bytes the process's memory grew meanwhile, at most. */
  async growth<Result>(work: () => Promise<Result>): Promise<{ result: Result; bytes: number }> {
    // Sets the peak back to what is resident now.
    writeFileSync(`/proc/${this.pid}/clear_refs`, '5');
    const before = this.#peak();
    const result = await work();
    return { result, bytes: this.#peak() - before };
  }

  #peak(): number {
    const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${this.pid}/status`, 'latin1'));
    return Number(line?.[1]) * 1024;
  }

  async stop(): Promise<void> {
    const closed = once(this.#child, 'close');
    this.#child.stdin?.end();
    await closed;
  }
}

/** Takes files out of the page cache, without a privilege for it. */
export async function evict(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await promisify(execFile)('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none']);
  }
}
