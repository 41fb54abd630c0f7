/**
 * The listening side of eventd's stream sockets: a path that can be bound, a stale file out of the way,
 * the right mode (WIRE-1, LIFE-115, HOST-70).
 */
import { chmodSync, lstatSync, statSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';

/** `sun_path` of a Unix socket address holds 108 bytes, the closing NUL included. */
const MAX_PATH_BYTES = 107;

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/** A socket cannot be had. The message names the path and the cause. */
export class SocketPathError extends Error {
  override readonly name = 'SocketPathError';
}

export interface ListenOptions {
  readonly path: string;
  /** Permission bits of the socket file. */
  readonly mode: number;
  readonly backlog: number;
}

/**
 * Binds the socket and listens. Connections come in paused; `onConnection` gets them as they arrive.
 *
 * A socket file nobody answers on is removed first, anything else in its place is left alone.
 * @throws SocketPathError
 */
export async function listenOnUnixSocket(
  { path, mode, backlog }: ListenOptions,
  onConnection: (socket: Socket) => void,
): Promise<Server> {
  if (path.length === 0 || path.includes('\0'))
    throw new SocketPathError('the socket path is empty or holds NUL');
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_PATH_BYTES) {
    throw new SocketPathError(
      `${path}: a socket path holds at most ${MAX_PATH_BYTES} bytes, this one has ${bytes}`,
    );
  }
  await removeStale(path);
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, onConnection);
  // Nobody connects between bind and chmod who could not connect after it.
  const mask = process.umask(0o777 & ~mode);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(new SocketPathError(`${path}: cannot be bound: ${reasonOf(error)}`)),
    );
    server.listen({ path, backlog }, () => {
      server.removeAllListeners('error');
      resolve();
    });
  }).finally(() => process.umask(mask));
  chmodSync(path, mode);
  return server;
}

/** True when users other than the owner could put their own socket in this one's place (HOST-70). */
export function replaceableByOthers(path: string): boolean {
  const { mode } = statSync(dirname(path));
  return (mode & WRITABLE_BY_OTHERS) !== 0 && (mode & STICKY) === 0;
}

/**
 * What is at a socket's path, of whatever kind of socket; nothing is sent. `stale`: a file nobody has
 * bound; `inUse` also where that cannot be told.
 */
export async function socketPathState(path: string): Promise<'free' | 'stale' | 'inUse' | 'noSocket'> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return 'free';
  if (!stat.isSocket()) return 'noSocket';
  const answer = await probe(path);
  if (answer === 'ENOENT') return 'free';
  return answer === 'ECONNREFUSED' ? 'stale' : 'inUse';
}

async function removeStale(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) throw new SocketPathError(`${path}: exists and is no socket`);
  const answer = await probe(path);
  if (answer === 'ENOENT') return;
  if (answer === 'ECONNREFUSED') return unlinkSync(path);
  throw new SocketPathError(
    answer === 'connected' || answer === 'EAGAIN'
      ? `${path}: another process answers on this socket`
      : `${path}: cannot tell whether another process uses this socket: ${answer}`,
  );
}

function probe(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve('connected');
    });
    socket.once('error', (error) => resolve(reasonOf(error)));
  });
}

function reasonOf(error: Error): string {
  return (error as NodeJS.ErrnoException).code ?? error.message;
}
