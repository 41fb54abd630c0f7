import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { readableLogLine } from '../../src/host/logLine.js';

const ENTRY =
  '{"level":40,"time":"2026-05-01T12:00:01.123Z","name":"eventd","path":"/a b","count":3,"of":[1],"msg":"full"}';

test('a JSON log entry becomes one readable line, with or without its program', () => {
  assert.equal(readableLogLine(ENTRY, true), '12:00:01 eventd warn  full path=/a b count=3 of=[1]');
  assert.equal(readableLogLine(ENTRY, false), '12:00:01 warn  full path=/a b count=3 of=[1]');
});

test('other lines stay as they are, JSON or not', () => {
  for (const line of [
    '',
    'eventd: no such hive',
    '{"level":40}',
    '{broken',
    '[1]',
    '{"msg":"a","time":1,"level":30}',
  ])
    assert.equal(readableLogLine(line, true), line);
});

test('no text of an entry or a line can control the terminal', () => {
  const evil = {
    level: 50,
    time: '2026-05-01T12:00:01Z',
    name: 'n',
    msg: 'a\u001b[2Jb\nc',
    '\u202e': '\u0007',
  };
  assert.equal(
    readableLogLine(JSON.stringify(evil), false),
    '12:00:01 error a\\u{1b}[2Jb\\nc \\u{202e}=\\u{7}',
  );
  assert.equal(readableLogLine('\u001b[2J', false), '\\u{1b}[2J');
});

test('the log of a program is JSON in a pipe and readable at a terminal', () => {
  const module = new URL('../../src/host/processLog.js', import.meta.url).href;
  const run = (isTerminal: boolean) =>
    spawnSync(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `Object.defineProperty(process.stderr, 'isTTY', { value: ${isTerminal} });
         const { openLog } = await import(${JSON.stringify(module)});
         openLog('eventd').warn('full', { count: 3 });`,
      ],
      { encoding: 'utf8' },
    ).stderr;
  const entry = JSON.parse(run(false)) as Record<string, unknown>;
  assert.deepEqual([entry.level, entry.name, entry.msg, entry.count], [40, 'eventd', 'full', 3]);
  assert.match(run(true), /^\d\d:\d\d:\d\d eventd warn {2}full count=3\n$/);
});
