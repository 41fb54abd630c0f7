/** The file descriptor behind an accepted socket; Node has no public way to it. */
import type { Socket } from 'node:net';

/** Null once the socket is closed. */
export function tryDescriptorOf(socket: Socket): number | null {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  return typeof fd === 'number' && fd >= 0 ? fd : null;
}

/** @throws Error once the socket is closed */
export function descriptorOf(socket: Socket): number {
  const fd = tryDescriptorOf(socket);
  if (fd === null) throw new Error('the connection is gone');
  return fd;
}
