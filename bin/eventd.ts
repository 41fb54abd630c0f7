#!/usr/bin/env node
import { parseArgs } from 'node:util';
import { checkInstallation } from '../actors/daemon/check.js';
import { runDaemon } from '../actors/daemon/daemon.js';
/** The observability daemon. Exit 0 after a graceful stop, 1 with one clear line otherwise, 2 on wrong usage. */
import { messageOf } from '../src/host/errorMessage.js';
import { openLog } from '../src/host/processLog.js';
import { packageVersion } from '../src/host/version.js';

const USAGE = `Usage: eventd [OPTION]...
Stores every kernel event, and answers queries over one socket. Runs in the foreground.

  --registry FILE  hive file of the embedded registry, watched for changes ($EVENTD_REGISTRY; else the
                   kernel's registry where there is one, else /etc/eventd/eventd.reg)
  --kmes DIR       directory of the embedded event rings, cpu-NNNN.ring
                   ($EVENTD_KMES_DIR, else /run/kmes)
  --host KIND      auto, peios or linux: which kernel interfaces to use. auto takes the embedded
                   stand-in for every interface this kernel does not have (default)
  --check          check configuration and stores, print what would be opened, change nothing
  --help           this text
  --version        version

Signals: TERM and INT stop gracefully, QUIT too with a diagnostic dump, HUP reads the configuration again.
`;

interface Options {
  readonly registryFile: string | null;
  readonly kmesDirectory: string;
  readonly host: 'auto' | 'peios' | 'linux';
  readonly check: boolean;
}

function readOptions(): Options | 'help' | 'version' {
  const { values } = parseArgs({
    options: {
      registry: { type: 'string' },
      kmes: { type: 'string' },
      host: { type: 'string', default: 'auto' },
      check: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
      version: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  if (values.version) return 'version';
  const { host } = values;
  if (host !== 'auto' && host !== 'peios' && host !== 'linux') {
    throw new Error(`--host takes auto, peios or linux, not '${host}'`);
  }
  return {
    registryFile: values.registry ?? process.env.EVENTD_REGISTRY ?? null,
    kmesDirectory: values.kmes ?? process.env.EVENTD_KMES_DIR ?? '/run/kmes',
    host,
    check: values.check,
  };
}

async function main(): Promise<number> {
  let options: ReturnType<typeof readOptions>;
  try {
    options = readOptions();
  } catch (error) {
    process.stderr.write(`eventd: ${messageOf(error)}; see eventd --help\n`);
    return 2;
  }
  if (options === 'help') {
    process.stdout.write(USAGE);
    return 0;
  }
  if (options === 'version') {
    process.stdout.write(`eventd ${packageVersion()}\n`);
    return 0;
  }
  if (options.check) {
    const { lines, good } = await checkInstallation(options);
    process.stdout.write(`${lines.join('\n')}\n`);
    return good ? 0 : 1;
  }
  const log = openLog('eventd');
  const output = await runDaemon({ ...options, log });
  if (output.type === 'stopped') return 0;
  process.stderr.write(`eventd: ${output.failure.phase}: ${output.failure.message}\n`);
  return 1;
}

// A stray rejection or throw is a defect; one line, a nonzero end, and the service manager decides.
process.on('uncaughtException', (error) => {
  process.stderr.write(`eventd: internal error: ${error.message}\n`);
  process.exit(1);
});

// Node would open its debugger, which runs any code, to every local user; without it the signal ends the
// process as anywhere else (LIFE-231).
process.once('SIGUSR1', () => process.kill(process.pid, 'SIGUSR1'));

process.exitCode = await main();
// Threads and handles are closed by now; whatever lingers must not keep a stopped daemon alive.
process.exit();
