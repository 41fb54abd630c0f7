/**
 * The debug socket: newline-delimited JSON about every actor in every thread. Read-only, mode 0600,
 * for SYSTEM and Administrators and the user eventd runs as. A slow reader is dropped, never waited for.
 */
import { chmodSync, lstatSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { native } from '../../src/native/addon.js';
import type { DaemonLog } from '../daemon/log.js';
import type { InspectionMessage } from './feed.js';

/** Unsent bytes at which a reader counts as slow. */
const SLOW_READER_BYTES = 4 * 1024 * 1024;

/** Front ends at once; more are refused. */
const MAX_READERS = 8;

/** A thread that has not sent its actors' state after this long is left out of the first burst, ms. */
const BURST_MS = 250;

/** Ends the first burst: what follows is live. */
const READY_LINE = '{"type":"@eventd.ready"}\n';

export interface InspectorOptions {
  readonly path: string;
  readonly log: DaemonLog;
  /** Turns the feeds of all threads on or off; on also makes each send its present state. */
  enable(on: boolean): void;
}

export class InspectorServer {
  readonly #options: InspectorOptions;
  readonly #server: Server;
  readonly #readers = new Set<Socket>();

  private constructor(options: InspectorOptions, server: Server) {
    this.#options = options;
    this.#server = server;
    server.on('connection', (socket) => this.#connected(socket));
  }

  /** Binds the socket, removing one that an earlier crash left behind. */
  static async listen(options: InspectorOptions): Promise<InspectorServer> {
    removeStale(options.path);
    const server = createServer();
    const mask = process.umask(0o177);
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', (error) => reject(new Error(`debug socket ${options.path}: ${error.message}`)));
        server.listen(options.path, resolve);
      });
    } finally {
      process.umask(mask);
    }
    chmodSync(options.path, 0o600);
    return new InspectorServer(options, server);
  }

  /** One message of some thread, to every reader. */
  publish(message: InspectionMessage): void {
    if (this.#readers.size === 0) return;
    const line = `${JSON.stringify(message)}\n`;
    for (const reader of this.#readers) this.#write(reader, line);
  }

  async close(): Promise<void> {
    for (const reader of this.#readers) reader.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    rmSync(this.#options.path, { force: true });
  }

  #connected(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    if (this.#readers.size >= MAX_READERS || !mayInspect(socket)) {
      socket.destroy();
      return;
    }
    socket.resume();
    socket.once('close', () => {
      this.#readers.delete(socket);
      if (this.#readers.size === 0) this.#options.enable(false);
    });
    this.#readers.add(socket);
    // Every reader sees the burst again: a front end takes a repeated actor as its newest state.
    this.#options.enable(true);
    setTimeout(() => this.#write(socket, READY_LINE), BURST_MS).unref();
  }

  #write(reader: Socket, line: string): void {
    if (reader.destroyed) return;
    reader.write(line);
    if (reader.writableLength > SLOW_READER_BYTES) {
      this.#options.log.warn('a reader of the debug socket was too slow and is dropped');
      reader.destroy();
    }
  }
}

/** Root and eventd's own user. Groups of administrators come in by the query socket's rules later. */
function mayInspect(socket: Socket): boolean {
  try {
    const { uid } = native.peerCredentials(descriptorOf(socket));
    return uid === 0 || uid === process.geteuid?.();
  } catch {
    return false;
  }
}

function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd;
}

function removeStale(path: string): void {
  try {
    if (!lstatSync(path).isSocket())
      throw new Error(`debug socket ${path}: the path exists and is no socket`);
    rmSync(path);
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ENOENT') throw error;
  }
}
