/** `evctl registry`: reads and edits the hive file of the embedded registry (HOST-64). */
import { RegistryUsageError, runRegistryCommand } from '../registry/edit.js';
import { type CommandContext, CommandFailure } from './context.js';
import { UsageError } from './options.js';
import { visible } from './terminal.js';

/**
 * Runs one registry command and prints its answer.
 * @throws {CommandFailure | UsageError} what to tell the user
 */
export async function runRegistry(context: CommandContext): Promise<void> {
  const { options, output } = context;
  const [command, ...args] = options.positionals;
  if (command === undefined) throw new UsageError('registry takes a command: get, set, del, ls or set-sd');
  const text = await answer(options.get('registry') ?? '', command, args);
  const lines = text.split('\n').map((line) => `${visible(line)}\n`);
  if (text !== '') await output.write(lines.join(''));
}

async function answer(file: string, command: string, args: readonly string[]): Promise<string> {
  try {
    return await runRegistryCommand(file, command, args);
  } catch (error) {
    if (error instanceof RegistryUsageError) throw new UsageError(error.message);
    if (error instanceof Error && 'syscall' in error && 'code' in error)
      throw new CommandFailure(`${file}: ${error.code === 'ENOENT' ? 'no such file' : error.code}`);
    throw error instanceof Error ? new CommandFailure(error.message) : error;
  }
}
