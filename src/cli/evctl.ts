/** The program evctl: command line in, exit code out. */
import { packageVersion } from '../host/version.js';
import { ConnectionFailure, QueryFailure } from '../wire/client.js';
import {
  type CommandContext,
  CommandFailure,
  EXIT,
  Interrupted,
  type PlanQuery,
  type Streams,
} from './context.js';
import { COMMANDS, type CommandName, EVCTL_OPTIONS, evctlHelp } from './evctlOptions.js';
import { type Environment, type ParsedOptions, parseOptions, splitCommand, UsageError } from './options.js';
import { Output, OutputClosed } from './output.js';
import { runQuery } from './queryCommand.js';
import { type ColorMode, paintFor, visible } from './terminal.js';

/**
 * Runs evctl.
 * @param interrupted aborts when the user wants to stop (SIGINT)
 * @param plan for `--explain`
 * @returns the exit code: 0 done, 1 failed, 2 wrong usage (a query that does not parse included), 130
 * interrupted; `run`: that of its command
 */
export async function evctl(
  args: readonly string[],
  env: Environment,
  streams: Streams,
  interrupted: AbortSignal,
  plan: PlanQuery,
): Promise<number> {
  const output = new Output(streams.stdout);
  // With nobody left to read messages, failing to write one is no failure.
  streams.stderr.on('error', () => undefined);
  let command: CommandName | null = null;
  try {
    const split = splitCommand(args, EVCTL_OPTIONS, COMMANDS);
    command = COMMANDS.find((name) => name === split.command) ?? null;
    const options = parseOptions(split.rest, EVCTL_OPTIONS, command, env);
    if (options.has('help')) await output.write(evctlHelp(command, await formsOf(command)));
    else if (options.has('version')) await output.write(`evctl ${packageVersion()}\n`);
    else {
      const terminal = streams.stdout.isTTY === true;
      const context: CommandContext = {
        options,
        env,
        stdin: streams.stdin,
        output,
        terminal,
        stdout: streams.stdout,
        paint: paintFor(terminal, colorMode(options), env),
        plan,
        warn: (text) => void streams.stderr.write(`evctl: ${visible(text)}\n`),
        signal: AbortSignal.any([interrupted, output.failed]),
      };
      // Whatever became of the copy of its output, what the command ended with counts.
      if (command === 'run') return await (await import('./runCommand.js')).runCommand(context, streams);
      await run(command, context);
    }
    await output.finish();
    return EXIT.done;
  } catch (error) {
    // The message belongs below the output, and after a pager.
    await output.finish().catch(() => undefined);
    return report(error, interrupted, output, command, streams);
  }
}

function colorMode(options: ParsedOptions): ColorMode {
  if (options.has('no-color')) return 'never';
  const mode = options.get('color');
  return mode === 'always' || mode === 'never' ? mode : 'auto';
}

/** The registry library names its own forms. */
async function formsOf(command: CommandName | null): Promise<readonly string[]> {
  if (command !== 'registry') return [];
  return Object.values((await import('../registry/edit.js')).REGISTRY_USAGE).flatMap((usage) =>
    usage.split(' | '),
  );
}

async function run(command: Exclude<CommandName, 'run'> | null, context: CommandContext): Promise<void> {
  // Only the command that runs is loaded: a query needs neither the emit client nor the registry.
  switch (command) {
    case null:
      return runQuery(context);
    case 'completion':
      return (await import('./completion.js')).runCompletion(context);
    case 'config':
      return (await import('./configCommand.js')).runConfig(context);
    case 'inspect':
      return (await import('./inspectCommand.js')).runInspect(context);
    case 'emit': {
      const { runEmit } = await import('./emitCommand.js');
      const { connectEmitter } = await import('./emitter.js');
      return runEmit(context, connectEmitter);
    }
    case 'log':
      return (await import('./logCommand.js')).runLog(context);
    case 'metric':
      return (await import('./metricCommand.js')).runMetric(context);
    case 'registry':
      return (await import('./registryCommand.js')).runRegistry(context);
  }
}

function report(
  error: unknown,
  interrupted: AbortSignal,
  output: Output,
  command: CommandName | null,
  streams: Streams,
): number {
  // An aborted wait fails in many ways; what counts is why it was aborted.
  if (interrupted.aborted || error instanceof Interrupted) return EXIT.interrupted;
  const cause: unknown = output.failed.aborted ? output.failed.reason : error;
  if (cause instanceof OutputClosed) return EXIT.done;
  if (cause instanceof UsageError) {
    const help = command === null ? 'evctl --help' : `evctl ${command} --help`;
    streams.stderr.write(`evctl: ${visible(cause.message)} (see ${help})\n`);
    return EXIT.usage;
  }
  streams.stderr.write(`evctl: ${visible(messageOf(cause))}\n`);
  if (!(cause instanceof CommandFailure)) return EXIT.failed;
  for (const line of cause.details) streams.stderr.write(`${line}\n`);
  return cause.code;
}

function messageOf(cause: unknown): string {
  if (cause instanceof CommandFailure || cause instanceof ConnectionFailure || cause instanceof QueryFailure)
    return cause.message;
  return cause instanceof Error ? (cause.message.split('\n')[0] ?? cause.name) : String(cause);
}
