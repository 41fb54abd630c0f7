/**
 * The debug socket: newline-delimited JSON about every actor in every thread. Read-only, mode 0600,
 * for SYSTEM and Administrators and the user eventd runs as. A slow reader is dropped, never waited for.
 *
 * A reader first gets every actor's present state, then the figures of the event path, the settings in
 * force, and `@eventd.ready`; what follows is live. Lines whose type begins with `@eventd.` are our own; front ends
 * of the Stately vocabulary pass over them.
 */

import { rmSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import { tokenFromCredentials } from '../../src/host/peerIdentity.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { descriptorOf } from '../../src/host/socketDescriptor.js';
import { native } from '../../src/native/addon.js';
import { listenOnUnixSocket } from '../unixSocket.js';
import { ActorDirectory } from './directory.js';
import type { InspectionMessage } from './feed.js';
import { type Figures, withRates } from './figures.js';

/** Unsent bytes, beyond what a reader was sent at its start, at which it counts as slow. */
const SLOW_READER_BYTES = 4 * 1024 * 1024;

/** Nothing is expected from a reader; one that sends more than this is no front end. */
const MAX_RECEIVED_BYTES = 64 * 1024;

/** Front ends at once; more are refused. */
export const MAX_READERS = 8;

/** Figures are taken this often while somebody reads them, ms. */
const FIGURES_EVERY_MS = 1000;

const READY_LINE = lineOf({ type: '@eventd.ready' });
const REFUSED_LINE = lineOf({
  type: '@eventd.refused',
  reason: `${MAX_READERS} readers are connected, as many as there may be`,
});

export interface InspectorOptions {
  readonly path: string;
  readonly log: ProcessLog;
  /** Groups whose members are administrators besides root (HOST-67). */
  readonly adminGids: ReadonlySet<number>;
  /** Session of the daemon, below which every other actor is shown. */
  readonly root: string;
  /** Turns the feeds of all threads on or off; on also makes each send its present state. */
  enable(on: boolean): void;
  /**
   * What the parts of the daemon count, within a bounded time. A thread that answers has sent all it
   * had to say before.
   */
  figures(): Promise<Figures>;
  /** The settings in force, told once to each reader. */
  configuration?(): object;
}

interface Reader {
  readonly socket: Socket;
  /** Unsent bytes that it may have besides SLOW_READER_BYTES: the rest of its first burst. */
  allowance: number;
  ready: boolean;
  /** It has closed its side: it gets the present state and is let go. */
  leaving: boolean;
}

export class InspectorServer {
  readonly #options: InspectorOptions;
  readonly #server: Server;
  readonly #readers = new Set<Reader>();
  readonly #directory: ActorDirectory;
  #adminGids: ReadonlySet<number>;
  /** Over when the present state of every actor is in the directory. */
  #gathering: Promise<void> = Promise.resolve();
  #figures: { readonly values: Figures; readonly atMs: number } | null = null;
  #timer: NodeJS.Timeout | null = null;

  private constructor(options: InspectorOptions, server: Server) {
    this.#options = options;
    this.#adminGids = options.adminGids;
    this.#server = server;
    this.#directory = new ActorDirectory(options.root);
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
    const known = this.#directory.take(message);
    if (known !== null) this.#broadcast(lineOf(known));
  }

  /** A thread is over, however it ended: so are its actors, whatever they said last. */
  threadEnded(name: string): void {
    for (const message of this.#directory.endThread(name)) this.#broadcast(lineOf(message));
  }

  /** The admin groups resolved anew; readers accepted before stay (HOST-67). */
  updateAdminGroups(gids: ReadonlySet<number>): void {
    this.#adminGids = gids;
  }

  async close(): Promise<void> {
    this.#stopFigures();
    for (const { socket } of this.#readers) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    rmSync(this.#options.path, { force: true });
  }

  /** @internal */
  connected(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    if (!mayInspect(socket, this.#adminGids)) {
      socket.destroy();
      return;
    }
    if (this.#readers.size >= MAX_READERS) {
      socket.resume();
      socket.end(REFUSED_LINE, () => socket.destroy());
      return;
    }
    const reader: Reader = { socket, allowance: Number.POSITIVE_INFINITY, ready: false, leaving: false };
    this.#readers.add(reader);
    socket.once('close', () => this.#left(reader));
    this.#discardInput(reader);
    if (this.#readers.size === 1) this.#gathering = this.#gather();
    else for (const message of this.#directory.actors()) this.#write(reader, lineOf(message));
    void this.#gathering.then(() => this.#greet(reader));
  }

  /** Read-only: whatever arrives is thrown away, up to a bound. */
  #discardInput(reader: Reader): void {
    const { socket } = reader;
    let received = 0;
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
      if (received <= MAX_RECEIVED_BYTES || socket.destroyed) return;
      this.#options.log.warn('a reader of the debug socket sends data, which nobody expects, and is dropped');
      socket.destroy();
    });
    // Nothing would show that such a reader is gone: it could keep its place for ever.
    socket.once('end', () => {
      reader.leaving = true;
      if (reader.ready) socket.end();
    });
    socket.resume();
  }

  async #gather(): Promise<void> {
    this.#directory.clear();
    this.#options.enable(true);
    await this.#takeFigures();
    if (this.#readers.size === 0) return;
    this.#timer ??= setInterval(() => void this.#takeFigures(), FIGURES_EVERY_MS).unref();
  }

  #greet(reader: Reader): void {
    const { socket } = reader;
    if (this.#figures !== null) this.#write(reader, this.#figuresLine(this.#figures.values));
    const configuration = this.#options.configuration?.();
    if (configuration !== undefined)
      this.#write(reader, lineOf({ type: '@eventd.configuration', ...configuration }));
    this.#write(reader, READY_LINE);
    reader.ready = true;
    reader.allowance = socket.writableLength;
    if (reader.allowance > 0) {
      socket.once('drain', () => {
        reader.allowance = 0;
      });
    }
    if (reader.leaving) socket.end();
  }

  async #takeFigures(): Promise<void> {
    const values = await this.#options.figures().catch(() => null);
    if (values === null || this.#readers.size === 0) return;
    const atMs = performance.now();
    const before = this.#figures;
    this.#figures = {
      values: withRates(values, before?.values ?? null, atMs - (before?.atMs ?? atMs)),
      atMs,
    };
    const line = this.#figuresLine(this.#figures.values);
    // Who is not ready gets them as part of its greeting.
    for (const reader of this.#readers) if (reader.ready) this.#write(reader, line);
  }

  #figuresLine(figures: Figures): Buffer {
    return lineOf({ type: '@eventd.figures', createdAt: String(Date.now()), figures });
  }

  #left(reader: Reader): void {
    this.#readers.delete(reader);
    if (this.#readers.size > 0) return;
    this.#stopFigures();
    this.#directory.clear();
    this.#options.enable(false);
  }

  #stopFigures(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#figures = null;
  }

  #broadcast(line: Buffer): void {
    for (const reader of this.#readers) this.#write(reader, line);
  }

  #write(reader: Reader, line: Buffer): void {
    const { socket } = reader;
    if (!socket.writable) return;
    socket.write(line);
    if (socket.writableLength <= SLOW_READER_BYTES + reader.allowance) return;
    this.#options.log.warn('a reader of the debug socket was too slow and is dropped');
    socket.destroy();
  }
}

function lineOf(message: object): Buffer {
  return Buffer.from(`${JSON.stringify(message)}\n`);
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
