import assert from 'node:assert/strict';
import { test } from 'node:test';
import { candidates } from '../../src/cli/completionCandidates.js';
import { expectedAfter } from '../../src/cli/completionQuery.js';
import { COMMANDS } from '../../src/cli/evctlOptions.js';
import { CLAUSES } from '../../src/query/keywords.js';

const NOWHERE = { EVENTD_SOCKET: '/nowhere.sock' };
const complete = (...words: string[]) =>
  candidates(['evctl', ...words], words.length, NOWHERE, AbortSignal.timeout(1000));

test('the first word may be a command, a mode of the language, or an option', async () => {
  assert.deepEqual(await complete(''), [...COMMANDS, 'EVENTS', 'LOGS', 'METRIC']);
  assert.deepEqual(await complete('me'), ['metric', 'METRIC']);
  assert.deepEqual(await complete('--fo'), ['--format', '--follow']);
  assert.deepEqual(await complete('emit', '--'), ['--kmes', '--help', '--version']);
  assert.deepEqual(await complete('EVENTS', ''), []);
});

test('values of options: choices, files, times; also behind a sign of equality, as bash cuts it', async () => {
  assert.deepEqual(await complete('-o', ''), ['pretty', 'jsonl', 'csv', 'msgpack']);
  assert.deepEqual(await complete('--format=c'), ['--format=csv']);
  assert.deepEqual(await complete('--format', '=', 'p'), ['pretty']);
  assert.deepEqual(await complete('--color', '='), ['auto', 'always', 'never']);
  assert.deepEqual(await complete('--socket', ''), [':files']);
  assert.deepEqual(await complete('--since', 't'), ['today']);
  assert.deepEqual(await complete('-n', ''), []);
  assert.deepEqual(await complete('registry', 's'), ['set', 'set-sd']);
  assert.deepEqual(await complete('config', 'MaxB'), ['MaxBatchSize', 'MaxBatchLatencyMs']);
  assert.deepEqual(await complete('config', '-o', ''), ['pretty', 'jsonl']);
  assert.deepEqual(await complete('completion', ''), ['bash', 'zsh']);
});

test('[QL-3] in a query the last word is completed, whatever the case, and the rest stays', async () => {
  assert.deepEqual(await complete('-f', 'EVENTS a.* sinc'), ['EVENTS a.* SINCE']);
  assert.deepEqual(await complete('LOGS WHERE mess'), ['LOGS WHERE message']);
  assert.deepEqual(await complete('EVENTS SELECT timestamp,ev'), ['EVENTS SELECT timestamp,event_type']);
});

for (const [head, some, not] of [
  ['EVENTS ', ['INDEX', 'WHERE', 'STREAM'], ['FROM', 'RATE']],
  ['EVENTS a ', ['WHERE', 'COUNT'], ['INDEX']],
  ['EVENTS TAKE 5 ', ['WHERE'], ['TAKE']],
  ['EVENTS TAKE ', [], ['WHERE']],
  ['EVENTS WHERE a == 1 ', ['AND', 'WHERE'], ['==']],
  ['EVENTS WHERE ', ['cpu_id', 'METRIC', 'LOG'], ['EVENT', 'AND']],
  ['EVENTS WHERE cpu_id ', ['>=', 'NOT_IN', 'IS'], ['cpu_id']],
  ['EVENTS WHERE origin_class == ', ['kacs'], ['AND']],
  ['EVENTS WHERE origin_class IN ( ', ['kacs'], ['AND']],
  ['EVENTS WHERE origin_class IN (kacs, lcs) ', ['OR', 'SORT'], ['kacs']],
  ['EVENTS WHERE (a == 1 AND ', ['timestamp'], ['AND']],
  ['EVENTS WHERE a IS ', ['NULL', 'NOT NULL'], ['AND']],
  ['EVENTS SINCE ', ['1h ago', 'today'], ['WHERE']],
  ['EVENTS SINCE 1h ', ['ago'], ['WHERE']],
  ['EVENTS SINCE 1h ago ', ['UNTIL'], ['SINCE', 'ago']],
  ['EVENTS COUNT ', ['BY', 'SINCE'], ['COUNT']],
  ['EVENTS COUNT BY ', ['event_type'], ['SINCE']],
  ['EVENTS TOP 5 ', ['BY'], ['SINCE']],
  ['EVENTS GROUP event_type ', ['COUNT', 'AVG'], ['WHERE']],
  ['EVENTS GROUP event_type AVG ', ['timestamp'], ['WHERE']],
  ['EVENTS SORT timestamp ', ['DESC', 'TAKE'], ['SORT']],
  ['EVENTS SORT timestamp, ', ['cpu_id'], ['DESC']],
  ['LOGS ERROR ', ['ONLY'], ['TAKE']],
  ['LOGS ', ['FROM', 'ERROR', 'CONTAINING'], ['RATE', 'INDEX']],
  ['METRIC cpu.usage[] ', ['RATE', 'AVG_OVER'], ['STREAM', 'COUNT']],
  ['METRIC cpu.usage AVG ', ['SINCE'], ['value']],
  ['EVENTS WHERE a == "SINCE ', [], ['timestamp', '1h ago']],
] as const)
  test(`[QL-3] after ${head}`, () => {
    const { words } = expectedAfter(head);
    for (const word of some) assert.ok(words.includes(word), `${word} is missing in ${words.join(' ')}`);
    for (const word of not) assert.ok(!words.includes(word), `${word} does not fit`);
  });

test('names that only the stores know are asked for in their places', () => {
  for (const [head, names] of [
    ['EVENTS ', 'types'],
    ['LOGS FROM ', 'origins'],
    ['LOGS FROM a, ', 'origins'],
    ['METRIC ', 'metrics'],
    ['EVENTS WHERE METRIC ', 'metrics'],
    ['EVENTS WHERE a == 1 AND LOG ', 'origins'],
    ['LOGS WHERE EVENT ', 'types'],
    ['LOGS ', undefined],
  ] as const)
    assert.equal(expectedAfter(head).names, names, head);
});

test('[QL-3] every clause of a mode is offered behind its first words', () => {
  for (const [mode, head] of [
    ['EVENTS', 'EVENTS a '],
    ['LOGS', 'LOGS '],
    ['METRIC', 'METRIC a[] '],
  ] as const)
    assert.deepEqual(expectedAfter(head).words, CLAUSES[mode]);
});
