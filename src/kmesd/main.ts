import { readFileSync } from 'node:fs';
import { BootIdError, readBootId } from '../host/bootId.js';
import { Notifier } from '../host/notify.js';
import { foreignRootProblem } from '../host/peerIdentity.js';
import { native } from '../native/addon.js';
import { startKmesd } from './daemon.js';
import { KmesdError, reasonOf } from './failure.js';
import { type KmesdOptions, parseCommandLine, USAGE, UsageError } from './options.js';
import type { Report } from './report.js';

/** Exit codes of every program here. */
const EXIT_DONE = 0;
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** Runs kmesd until SIGTERM or SIGINT; resolves to its exit code. */
export async function main(
  args: readonly string[],
  env: Record<string, string | undefined>,
  report: Report,
  version: string,
): Promise<number> {
  try {
    const command = parseCommandLine(args, env);
    switch (command.kind) {
      case 'help':
        process.stdout.write(USAGE);
        return EXIT_DONE;
      case 'version':
        process.stdout.write(`kmesd ${version}\n`);
        return EXIT_DONE;
      case 'run':
        await run(command.options, env, report);
        return EXIT_DONE;
    }
  } catch (error) {
    if (error instanceof UsageError) {
      process.stderr.write(`kmesd: ${error.message} (see kmesd --help)\n`);
      return EXIT_USAGE;
    }
    const known = error instanceof KmesdError || error instanceof BootIdError;
    process.stderr.write(`kmesd: ${known ? '' : 'unexpected failure: '}${reasonOf(error)}\n`);
    return EXIT_FAILED;
  }
}

async function run(
  options: KmesdOptions,
  env: Record<string, string | undefined>,
  report: Report,
): Promise<void> {
  const stopped = stopSignal();
  const notifier = Notifier.fromEnvironment(env, native.sendDatagram, report);
  const boot = readBootId(env);
  const problem = foreignRootProblem(readFileSync('/proc/self/uid_map', 'latin1'));
  if (problem !== null) report.warn(problem);
  const kmesd = await startKmesd(native, options, boot.guid, report);
  report.info(`serving ${options.cpus} ring(s) of boot ${boot.text} on ${kmesd.socketPath}`);
  notifier.ready();
  const signal = await stopped;
  notifier.stopping();
  report.info(`stopping on ${signal}`);
  await kmesd.stop();
}

/** Resolves at the first SIGTERM or SIGINT; installed before anything is opened. */
function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
}
