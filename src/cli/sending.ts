/** What `log`, `metric` and `run` share: eventd's datagram sockets, and how failures are told. */
import { ConnectionFailure, connectionFailure } from '../wire/client.js';
import type { DatagramSender } from '../wire/datagramSender.js';

/** How long the end of a command waits for eventd to take the rest, ms. */
export const DRAIN_MS = 5000;
/** And how long for somebody to open the socket: eventd may be restarting. */
export const GONE_MS = 500;

/** The text of an error that says why eventd does not take what is sent; null when nothing failed. */
export function sendingProblem(sender: DatagramSender): string | null {
  const { failure, path } = sender;
  if (failure === null) return null;
  if (isFull(failure.code)) return `${path}: the queue stays full; does eventd hang?`;
  return connectionFailure(path, Object.assign(new Error(), failure)).message;
}

/**
 * Nobody has the socket open, or it may not be written to: a mistake to be told at once.
 * @throws {ConnectionFailure}
 */
export function failWhenGone(sender: DatagramSender): void {
  const { failure, path } = sender;
  if (failure === null || isFull(failure.code)) return;
  throw new ConnectionFailure(sendingProblem(sender) ?? path, path, failure.code);
}

/** `1 line`, `2 lines`. */
export function counted(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? '' : 's'}`;
}

function isFull(code: string): boolean {
  return code === 'EAGAIN' || code === 'ENOBUFS' || code === 'ENOMEM';
}
