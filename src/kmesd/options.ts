import { parseArgs } from 'node:util';
import { messageOf } from '../host/errorMessage.js';
import { KMES_KEYS, type KmesKeyName, rangeError } from './limits.js';

/** Everything the command line of kmesd decides. */
export interface KmesdOptions {
  readonly directory: string;
  readonly capacity: number;
  readonly cpus: number;
  readonly maxEventSize: number;
  readonly maxNestingDepth: number;
  readonly maxEmitRate: number;
  /** Group names or decimal gids whose members may emit. */
  readonly adminGroups: readonly string[];
  readonly allowKernelPath: boolean;
  readonly kmsg: boolean;
  readonly process: boolean;
}

export type CommandLine =
  | { readonly kind: 'run'; readonly options: KmesdOptions }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' };

/** A command line that makes no sense; the program exits 2 with this message. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export const DEFAULT_DIRECTORY = '/run/kmes';
/** Ring files carry four digits; this many rings is far beyond what one emitter process can feed. */
export const MAX_CPUS = 1024;

export const USAGE = `Usage: kmesd [OPTIONS]

The embedded KMES for ordinary Linux: owns the event rings, stamps and writes events the way the
Peios kernel does, and takes them from DIR/emit.sock, /dev/kmsg and the kernel's process events.

  --kmes DIR               directory of rings and socket ($EVENTD_KMES_DIR; default ${DEFAULT_DIRECTORY})
  --capacity BYTES         data bytes per ring, a power of two, 65536 to 268435456 (default 4194304)
  --cpus N                 number of rings, 1 to ${MAX_CPUS} (default 1)
  --max-event-size BYTES   largest event, header and payload, 1024 to 4194304 (default 65536)
  --max-nesting-depth N    deepest payload, 4 to 256 (default 32)
  --max-emit-rate N        events per second and process, 100 to 1000000 (default 10000)
  --admin-group NAME|GID   members may emit, besides root; may be given several times
  --allow-kernel-path      let root use the test requests kernel_emit, resize and configure
  --no-kmsg                do not read /dev/kmsg
  --no-process             do not report process starts and exits
  --help                   show this text
  --version                show the version
`;

const OPTION_TABLE = {
  kmes: { type: 'string' },
  capacity: { type: 'string' },
  cpus: { type: 'string' },
  'max-event-size': { type: 'string' },
  'max-nesting-depth': { type: 'string' },
  'max-emit-rate': { type: 'string' },
  'admin-group': { type: 'string', multiple: true },
  'allow-kernel-path': { type: 'boolean' },
  'no-kmsg': { type: 'boolean' },
  'no-process': { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'V' },
} as const;

/**
 * Reads kmesd's command line. `env` supplies the default directory (`EVENTD_KMES_DIR`).
 * Throws UsageError naming the option and what it may be.
 */
export function parseCommandLine(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): CommandLine {
  const values = parseValues(args);
  if (values.help === true) return { kind: 'help' };
  if (values.version === true) return { kind: 'version' };
  const directory = values.kmes ?? env.EVENTD_KMES_DIR ?? DEFAULT_DIRECTORY;
  if (directory === '') throw new UsageError('--kmes: must name a directory');
  const cpus = integer('--cpus', values.cpus, 1);
  if (cpus < 1 || cpus > MAX_CPUS) throw new UsageError(`--cpus: must be between 1 and ${MAX_CPUS}`);
  return {
    kind: 'run',
    options: {
      directory,
      cpus,
      capacity: limit('--capacity', 'BufferCapacity', values.capacity),
      maxEventSize: limit('--max-event-size', 'MaxEventSize', values['max-event-size']),
      maxNestingDepth: limit('--max-nesting-depth', 'MaxNestingDepth', values['max-nesting-depth']),
      maxEmitRate: limit('--max-emit-rate', 'MaxEmitRatePerProcess', values['max-emit-rate']),
      adminGroups: values['admin-group'] ?? [],
      allowKernelPath: values['allow-kernel-path'] === true,
      kmsg: values['no-kmsg'] !== true,
      process: values['no-process'] !== true,
    },
  };
}

function parseValues(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTION_TABLE, strict: true, allowPositionals: false })
      .values;
  } catch (error) {
    // Only the first sentence: the rest explains parseArgs, not kmesd.
    const text = messageOf(error);
    throw new UsageError(text.split('. ')[0] ?? text);
  }
}

function integer(flag: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  const value = /^[0-9]{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(value)) throw new UsageError(`${flag}: must be an integer, not '${text.slice(0, 40)}'`);
  return value;
}

function limit(flag: string, key: KmesKeyName, text: string | undefined): number {
  const value = integer(flag, text, KMES_KEYS[key].default);
  const problem = rangeError(key, value);
  if (problem !== null) throw new UsageError(`${flag}: ${problem}, not ${value}`);
  return value;
}
