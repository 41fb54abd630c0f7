/**
 * The debug socket: newline-delimited JSON about every actor in every thread. Read-only, mode 0600,
 * for SYSTEM and Administrators and the user eventd runs as. A slow reader is dropped, never waited for.
 */

import { rmSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import { tokenFromCredentials } from '../../src/host/peerIdentity.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { descriptorOf } from '../../src/host/socketDescriptor.js';
import { native } from '../../src/native/addon.js';
import { listenOnUnixSocket } from '../unixSocket.js';
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
  readonly log: ProcessLog;
  /** Groups whose members are administrators besides root (HOST-67). */
  readonly adminGids: ReadonlySet<number>;
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
  }

  /** Binds the socket, removing one that an earlier crash left behind. */
  static async listen(options: InspectorOptions): Promise<InspectorServer> {
    let inspector: InspectorServer | null = null;
    const server = await listenOnUnixSocket(
      { path: options.path, mode: 0o600, backlog: MAX_READERS },
      (socket) => inspector?.connected(socket),
    );
    inspector = new InspectorServer(options, server);
    return inspector;
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

  /** @internal */
  connected(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    if (this.#readers.size >= MAX_READERS || !mayInspect(socket, this.#options.adminGids)) {
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

/** SYSTEM, Administrators, and the user eventd runs as; anything unclear is a no. */
function mayInspect(socket: Socket, adminGids: ReadonlySet<number>): boolean {
  try {
    const token = tokenFromCredentials(native.peerCredentials(descriptorOf(socket)), adminGids);
    return token.isSystemOrAdministrator || token.uid === process.geteuid?.();
  } catch {
    return false;
  }
}
