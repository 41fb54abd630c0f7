import type { Readable, Writable } from 'node:stream';
import type { QueryJob } from '../query/job.js';
import type { Settings } from '../registry/settings.js';
import type { Environment, ParsedOptions } from './options.js';
import type { Output } from './output.js';
import type { Paint } from './terminal.js';

/** The streams a program talks to; a terminal is told by `isTTY`. */
export interface Streams {
  readonly stdin: Readable;
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean };
}

/** Makes the job of a query text, or throws QueryError. eventd's own code does it, so the program passes it in. */
export type PlanQuery = (text: string, settings: PlanSettings) => Promise<QueryJob>;

/** The settings that plans depend on. */
export type PlanSettings = Pick<Settings, 'CrossTypeWindowMs' | 'CrossTypeMaxLookbackSeconds'>;

/** What a command of evctl works with. */
export interface CommandContext {
  readonly options: ParsedOptions;
  readonly env: Environment;
  readonly stdin: Readable;
  readonly output: Output;
  /** Is standard output a terminal? */
  readonly terminal: boolean;
  /** Standard output itself, for what decides by its size. */
  readonly stdout: Streams['stdout'];
  /** Styles for standard output. */
  readonly paint: Paint;
  /** Plans a query the way eventd does. */
  readonly plan: PlanQuery;
  /** Tells something on standard error, in a line of its own, and goes on. */
  readonly warn: (text: string) => void;
  /** Aborts on SIGINT and when standard output is closed. */
  readonly signal: AbortSignal;
}

/** The registry file that the user named, by `--registry` or in the environment; null = none. */
export function namedRegistry({ options, env }: Pick<CommandContext, 'options' | 'env'>): string | null {
  const isNamed = options.named.has('registry') || env.EVENTD_REGISTRY !== undefined;
  return isNamed ? (options.get('registry') ?? null) : null;
}

/** Exit codes of every program. */
export const EXIT = { done: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** A failure told to the user in one line, with more lines beneath where they help (a query and its caret). */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  constructor(
    message: string,
    readonly details: readonly string[] = [],
    /** The program's exit code. */
    readonly code: number = EXIT.failed,
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
