/** The receiving end of sd_notify: parsed messages with the kernel's word on who sent them (HOST-8, HOST-9). */
import { closeSync, rmSync } from 'node:fs';
import { native } from '../native/addon.js';

/** One datagram: the sender's pid and its `KEY=VALUE` lines, the last of equal keys winning. */
export interface NotifyMessage {
  readonly pid: number;
  readonly fields: ReadonlyMap<string, string>;
}

/** Messages read before other work gets its turn. */
const MAX_PER_TURN = 64;

export class NotifyReceiver {
  readonly #path: string;
  readonly #fd: number;
  readonly #stop: () => void;
  #open = true;

  /** Binds `path`, replacing a socket an earlier run left there. */
  constructor(path: string, receive: (message: NotifyMessage) => void) {
    rmSync(path, { force: true });
    this.#path = path;
    this.#fd = native.notifyListen(path);
    this.#stop = native.watchReadable(this.#fd, () => {
      for (let i = 0; i < MAX_PER_TURN && this.#open; i++) {
        const message = native.notifyReceive(this.#fd);
        if (message === null) return;
        receive({ pid: message.pid, fields: parseNotify(message.data) });
      }
    });
  }

  /** Stops receiving. Safe twice. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#stop();
    closeSync(this.#fd);
    rmSync(this.#path, { force: true });
  }
}

/** The `KEY=VALUE` lines of a message; lines without `=` mean nothing (HOST-8). */
export function parseNotify(data: Uint8Array): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (const line of Buffer.from(data).toString('utf8').split('\n')) {
    const at = line.indexOf('=');
    if (at > 0) fields.set(line.slice(0, at), line.slice(at + 1));
  }
  return fields;
}
