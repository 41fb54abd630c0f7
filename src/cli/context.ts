import type { Readable, Writable } from 'node:stream';
import type { Environment, ParsedOptions } from './options.js';
import type { Output } from './output.js';
import type { Paint } from './terminal.js';

/** The streams a program talks to; a terminal is told by `isTTY`. */
export interface Streams {
  readonly stdin: Readable;
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean };
}

/** What a command of evctl works with. */
export interface CommandContext {
  readonly options: ParsedOptions;
  readonly env: Environment;
  readonly stdin: Readable;
  readonly output: Output;
  /** Is standard output a terminal? */
  readonly terminal: boolean;
  /** Styles for standard output. */
  readonly paint: Paint;
  /** Aborts on SIGINT and when standard output is closed. */
  readonly signal: AbortSignal;
}

/** Exit codes of every program. */
export const EXIT = { done: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** A failure told to the user in one line, with more lines beneath where they help (a query and its caret). */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  constructor(
    message: string,
    readonly details: readonly string[] = [],
  ) {
    super(message);
  }
}

/** SIGINT: the program ends with 130 and says nothing. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
  constructor() {
    super('interrupted');
  }
}
