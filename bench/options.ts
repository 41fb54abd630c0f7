/** Command lines of the benchmarks: `--help` lists the options, and what is wrong gets one line. */
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf } from '../src/host/errorMessage.js';

/** A switch is false, a value without default undefined, where the command line does not name it. */
type Option = { readonly type: 'boolean' } | { readonly type: 'string'; readonly default?: string };
type Options = Readonly<Record<string, Option>>;
type ValueOf<One extends Option> = One extends { type: 'boolean' }
  ? boolean
  : One extends { default: string }
    ? string
    : string | undefined;

/** The values of the process's arguments; ends the process where there is nothing to run. */
export function benchOptions<const Known extends Options>(
  options: Known,
): { readonly [Name in keyof Known]: ValueOf<Known[Name]> } {
  const switches = Object.entries(options).flatMap(([name, { type }]) => (type === 'boolean' ? [name] : []));
  try {
    const help = { type: 'boolean', short: 'h' } as const;
    const { values } = parseArgs({ options: { ...options, help } as Record<string, Option> });
    if (values.help === true) {
      process.stdout.write(`options:\n${Object.entries(options).map(line).join('')}`);
      process.exit(0);
    }
    const off = Object.fromEntries(switches.map((name) => [name, false]));
    return { ...off, ...values } as { [Name in keyof Known]: ValueOf<Known[Name]> };
  } catch (error) {
    process.stderr.write(`${basename(process.argv[1] ?? '', '.js')}: ${messageOf(error)}\n`);
    process.exit(2);
  }
}

function line([name, option]: [string, Option]): string {
  if (option.type === 'boolean') return `  --${name}\n`;
  return `  --${name} VALUE${option.default === undefined ? '' : `  (default ${option.default})`}\n`;
}
