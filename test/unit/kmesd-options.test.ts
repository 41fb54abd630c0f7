import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type KmesdOptions, parseCommandLine, UsageError } from '../../src/kmesd/options.js';

function options(args: readonly string[], env: Record<string, string> = {}): KmesdOptions {
  const command = parseCommandLine(args, env);
  assert.equal(command.kind, 'run');
  return command.kind === 'run' ? command.options : assert.fail();
}

test('[HOST-73] [KMES-103] [KMES-148] without flags there is one ring of 4 MiB and the built-in limits', () => {
  assert.deepEqual(options([]), {
    directory: '/run/kmes',
    capacity: 4_194_304,
    cpus: 1,
    maxEventSize: 65_536,
    maxNestingDepth: 32,
    maxEmitRate: 10_000,
    adminGroups: [],
    allowKernelPath: false,
    kmsg: true,
    process: true,
  });
});

test('the directory comes from --kmes, else from EVENTD_KMES_DIR', () => {
  assert.equal(options([], { EVENTD_KMES_DIR: '/a' }).directory, '/a');
  assert.equal(options(['--kmes', '/b'], { EVENTD_KMES_DIR: '/a' }).directory, '/b');
});

test('every flag reaches its option', () => {
  const flags = '--capacity 65536 --cpus 3 --max-event-size 1024 --max-nesting-depth 4 --max-emit-rate 100';
  const given = options([
    ...flags.split(' '),
    '--admin-group',
    'adm',
    '--admin-group',
    '44',
    '--allow-kernel-path',
    '--no-kmsg',
    '--no-process',
  ]);
  assert.deepEqual(given, {
    directory: '/run/kmes',
    capacity: 65_536,
    cpus: 3,
    maxEventSize: 1024,
    maxNestingDepth: 4,
    maxEmitRate: 100,
    adminGroups: ['adm', '44'],
    allowKernelPath: true,
    kmsg: false,
    process: false,
  });
});

const REFUSED: readonly (readonly [readonly string[], RegExp])[] = [
  [['--capacity', '65535'], /^--capacity: must be between 65536 and 268435456, not 65535$/],
  [['--capacity', '98304'], /^--capacity: must be a power of two, not 98304$/],
  [['--capacity', '536870912'], /between/],
  [['--capacity', '4M'], /^--capacity: must be an integer, not '4M'$/],
  [['--cpus', '0'], /^--cpus: must be between 1 and 1024$/],
  [['--cpus', '1025'], /^--cpus:/],
  [['--max-event-size', '1023'], /^--max-event-size: must be between 1024 and 4194304, not 1023$/],
  [['--max-nesting-depth', '257'], /^--max-nesting-depth:/],
  [['--max-emit-rate', '99'], /^--max-emit-rate:/],
  [['--max-emit-rate', '1000001'], /^--max-emit-rate:/],
  [['--kmes', ''], /^--kmes:/],
  [['--no-such-flag'], /--no-such-flag/],
  [['stray'], /stray/],
];

for (const [args, message] of REFUSED) {
  test(`[KMES-103] [KMES-148] [KMES-151] '${args.join(' ')}' is refused, never corrected`, () => {
    assert.throws(
      () => parseCommandLine(args, {}),
      (error) => error instanceof UsageError && message.test(error.message),
    );
  });
}

test('--help and --version win over everything else', () => {
  assert.equal(parseCommandLine(['--help', '--cpus', '0'], {}).kind, 'help');
  assert.equal(parseCommandLine(['--version'], {}).kind, 'version');
});
