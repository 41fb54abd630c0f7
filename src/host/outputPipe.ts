/**
 * One output of a child process. Node's own 'pipe' is a socket, which programs that open /dev/stdout
 * or /dev/stderr anew cannot use; this is a pipe (LOG-54).
 */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { native } from '../native/addon.js';

export class OutputPipe {
  /** Goes into the child's `stdio`. */
  readonly writeEnd: number;
  /** What the child writes. Ends when nobody holds the other end any more. */
  readonly stream: Socket;
  #isHandedOver = false;

  constructor() {
    const { read, write } = native.openPipe();
    this.writeEnd = write;
    this.stream = new Socket({ fd: read, readable: true, writable: false });
    // A pipe that cannot be read has ended; `end` or `close` tells.
    this.stream.on('error', () => undefined);
  }

  /** The child has its own copy (or could not be started): gives up ours, so that the end is seen. Safe twice. */
  handedOver(): void {
    if (this.#isHandedOver) return;
    this.#isHandedOver = true;
    closeSync(this.writeEnd);
  }
}
