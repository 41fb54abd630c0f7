import assert from 'node:assert/strict';
import { test } from 'node:test';
import type Database from 'better-sqlite3';
import { AccessSession } from '../../src/access/accessSession.js';
import { fieldGuid } from '../../src/access/fieldGuid.js';
import type { DataType, FieldPath } from '../../src/access/fieldLists.js';
import { formatPlainGuid } from '../../src/host/guid.js';
import { type QueryAccess, restrictQuery, usableIdentifiers } from '../../src/query/accessFilter.js';
import { QueryError } from '../../src/query/errors.js';
import { parseQuery } from '../../src/query/parser.js';
import { type PlanCondition, planCondition, planEvents, planField } from '../../src/query/plan.js';
import { impliedFields, revealingFields } from '../../src/query/queryFields.js';
import { translateEvents } from '../../src/query/sql.js';
import { CountingCaller, FakeSecurity, patternsOf, userToken } from '../fixtures/access.js';
import { type Packed, packedMap } from '../fixtures/packed.js';
import { int, record, storeOf, str } from '../fixtures/queryStore.js';

const guid = (name: string) => formatPlainGuid(fieldGuid(name));
const OPEN = 'O:SYG:SYD:(A;;0x1;;;AU)';
const CLOSED = 'O:SYG:SYD:(A;;0x1;;;SY)';
const denying = (...names: string[]) =>
  `O:SYG:SYD:${names.map((name) => `(OD;;0x1;${guid(name)};;AU)`).join('')}(A;;0x1;;;AU)`;
const granting = (...names: string[]) =>
  `O:SYG:SYD:${names.map((name) => `(OA;;0x1;${guid(name)};;AU)`).join('')}`;

async function sessionOver(values: Readonly<Record<string, string>>) {
  const security = new FakeSecurity();
  for (const [path, sddl] of Object.entries(values)) security.set(path, sddl);
  const caller = new CountingCaller(userToken());
  return { caller, session: await AccessSession.open(caller, await patternsOf(security)) };
}

/** Records by type, all with a payload of two fields. */
const TYPES = ['open.a', 'secret.a', 'hush.a', 'slim.a', 'slim.b'];
const payload = (of: Readonly<Record<string, Packed>>) => packedMap(of);
const store = (): Database.Database =>
  storeOf(
    record('open.a', payload({ x: int(1n), y: str('one') })),
    record('secret.a', payload({ x: int(1n), y: str('two') })),
    record('hush.a', payload({ x: int(1n), y: str('three') })),
    record('slim.a', payload({ x: int(1n), y: str('four') })),
    record('slim.b', payload({ y: str('five') })),
  );
const SECURITY = {
  'Events\\*': CLOSED,
  'Events\\open': OPEN,
  'Events\\hush': denying('x'),
  'Events\\slim': granting('x'),
};
const SECURITY_OF_HUSH = { 'Events\\*': CLOSED, 'Events\\hush': denying('x') };
const PRESENT = new Map<string, readonly FieldPath[]>(
  TYPES.map((type) => [type, type === 'slim.b' ? [['y']] : [['x'], ['y']]]),
);

/** All names have records in the time range. */
const DATA = {
  type: 'events',
  resolve: planField,
  occurring: async (names: readonly string[]) => names,
} as const;

async function accessOf(text: string, values: Readonly<Record<string, string>> = SECURITY) {
  const query = parseQuery(text);
  assert.ok(query.mode === 'EVENTS');
  const plan = planEvents(query, 1_000_000n);
  const identifier = planField({ name: 'event_type', path: ['event_type'] });
  const { session, caller } = await sessionOver(values);
  const data = { ...DATA, identifier, present: PRESENT };
  const access = await restrictQuery(session, query, data, plan.where);
  return { access, plan, caller };
}

/** Types of the records a query finds, oldest name first. */
async function found(text: string, db = store()): Promise<string> {
  const { access, plan } = await accessOf(text);
  const { sql, params, sort } = translateEvents({ ...plan, where: access.restrict(plan.where) });
  const rows = db
    .prepare(sql)
    .raw()
    .all(...params) as unknown[][];
  return rows
    .map((row) => String(row[sort.length + 4]))
    .sort()
    .join(' ');
}

test('[ACL-29] [ACL-30] [QX-5] only records with something to see are left, before anything counts them', async () => {
  assert.equal(await found('EVENTS'), 'hush.a open.a slim.a');
  assert.equal(await found('EVENTS secret.*'), '');
  assert.equal(await found('EVENTS SKIP 0 TAKE 2'), await found('EVENTS TAKE 2'));
  // TAKE pages over visible records: hidden ones take no place.
  assert.equal((await found('EVENTS TAKE 3')).split(' ').length, 3);
});

test('[ACL-37] WHERE sees a denied field as NULL: no probing', async () => {
  assert.equal(await found('EVENTS WHERE x == 1'), 'open.a slim.a');
  assert.equal(await found('EVENTS WHERE x != 2'), 'open.a slim.a');
  assert.equal(await found('EVENTS WHERE x NOT_IN (7)'), 'open.a slim.a');
  assert.equal(await found('EVENTS WHERE x IS NOT NULL'), 'open.a slim.a');
  assert.equal(await found('EVENTS WHERE x IS NULL'), 'hush.a');
  assert.equal(await found('EVENTS WHERE x == 1 OR y == "three"'), 'hush.a open.a slim.a');
  assert.equal(await found('EVENTS WHERE y CONTAINS "o"'), 'open.a');
  assert.equal(await found('EVENTS WHERE y IS NULL'), 'slim.a');
  assert.equal(await found('EVENTS WHERE timestamp > 0'), 'hush.a open.a');
  assert.equal(await found('EVENTS WHERE event_type STARTS_WITH "s"'), '');
  // A pattern means the same as WHERE event_type (QL-77).
  assert.equal(await found('EVENTS slim.*'), '');
});

test('[ACL-29] what each type shows is told by name, everything by none', async () => {
  const { access } = await accessOf('EVENTS WHERE x == 1');
  const shown = [...access.shown].map(([name, { granted }]) => [
    name,
    granted === null ? null : granted.length,
  ]);
  assert.deepEqual(shown, [
    ['open.a', null],
    ['hush.a', 9 + 1],
    ['slim.a', 1],
    ['slim.b', 1],
  ]);
  assert.deepEqual(access.shown.get('slim.a')?.granted, ['x']);
});

test('[ACL-50] what is kept of an identifier does not grow with what the query looks at', async () => {
  const { access } = await accessOf('EVENTS WHERE a == 1 OR b == 2 OR x == 3');
  assert.deepEqual(access.present, PRESENT);
  // They are decided about all the same.
  const granted = [...(access.shown.get('hush.a')?.granted ?? [])];
  assert.deepEqual(
    ['a', 'b', 'x', 'y'].map((field) => granted.includes(field)),
    [true, true, false, true],
  );
});

async function refusal(text: string, values?: Readonly<Record<string, string>>): Promise<string> {
  try {
    await accessOf(text, values);
    return 'allowed';
  } catch (error) {
    assert.ok(error instanceof QueryError);
    return error.text;
  }
}

test('[ACL-33] [ACL-35] [ACL-36] [QX-6] grouping, sorting and aggregating by what something visible denies is refused', async () => {
  const text = (field: string) =>
    `access denied: the result cannot be grouped, sorted or aggregated by ${field}`;
  for (const query of [
    'EVENTS COUNT BY y',
    'EVENTS TOP 3 BY y',
    'EVENTS DISTINCT y',
    'EVENTS SORT y',
    'EVENTS GROUP y COUNT',
    'EVENTS MAX y',
    'EVENTS SORT timestamp DESC, y',
  ]) {
    assert.match(await refusal(query), /^access denied: .* by (y|timestamp)$/, query);
  }
  assert.equal(await refusal('EVENTS COUNT BY x'), text('x'));
  assert.equal(await refusal('EVENTS GROUP x SUM y'), text('x'));
  // Nothing in the text names a pattern or a type.
  assert.doesNotMatch(await refusal('EVENTS COUNT BY x'), /hush|slim|secret/);
  const open = { 'Events\\*': CLOSED, 'Events\\open': OPEN };
  for (const query of ['EVENTS COUNT BY x', 'EVENTS SORT y', 'EVENTS SUM x']) {
    assert.equal(await refusal(query, open), 'allowed', query);
  }
});

test('[ACL-34] types of which nothing is visible do not make a query fail', async () => {
  const values = { 'Events\\*': CLOSED, 'Events\\open': OPEN, 'Events\\secret': granting('elsewhere') };
  assert.equal(await refusal('EVENTS COUNT BY x', values), 'allowed');
});

test('[ACL-22] [ACL-23] [ACL-33] members of a denied map may not be used, nor what no list can hold', async () => {
  assert.equal(await refusal('EVENTS SORT y', SECURITY_OF_HUSH), 'allowed');
  assert.match(await refusal('EVENTS SORT x.name', SECURITY_OF_HUSH), /^access denied: .* by x\.name$/);
  const deep = 'y.'.repeat(70);
  assert.match(await refusal(`EVENTS SORT ${deep}y`, SECURITY_OF_HUSH), /^access denied: /);
});

test('[ACL-38] the default order, COUNT and SELECT name no field that could be refused', async () => {
  for (const query of ['EVENTS', 'EVENTS COUNT', 'EVENTS SELECT x, y', 'EVENTS TAKE 1']) {
    assert.equal(await refusal(query), 'allowed', query);
  }
});

test('[ACL-37] [ACL-39] [QL-77] what else a query tests: its selector, ERROR ONLY, CONTAINING, brackets, value', () => {
  const implied = (text: string) => {
    const query = parseQuery(text);
    assert.ok(query.mode !== 'INDEX');
    return impliedFields(query)
      .map((path) => path.join('.'))
      .join(' ');
  };
  const cases: readonly (readonly [string, string])[] = [
    ['EVENTS', ''],
    ['EVENTS *', ''],
    ['EVENTS kacs.*', 'event_type'],
    ['LOGS', ''],
    ['LOGS FROM sshd', 'origin'],
    ['LOGS ERROR ONLY', 'is_error'],
    ['LOGS CONTAINING "x"', 'message'],
    ['METRIC *[]', ''],
    ['METRIC cpu[]', 'name'],
    ['METRIC cpu', 'name value type'],
    // Names combine, and a refusal for the type tells both.
    ['METRIC *', 'name value type'],
    ['METRIC cpu[core == "0"] SINCE 1h ago RATE', 'timestamp name core value type'],
  ];
  for (const [text, expected] of cases) assert.equal(implied(text), expected, text);
});

test('[ACL-33] fields by which a query reveals values, each once', () => {
  const revealing = (text: string) => {
    const query = parseQuery(text);
    assert.ok(query.mode !== 'INDEX');
    return revealingFields(query)
      .map(({ name }) => name)
      .join(' ');
  };
  assert.equal(revealing('EVENTS WHERE a == 1 SELECT b SORT c, d DESC, c'), 'c d');
  assert.equal(revealing('EVENTS GROUP a, b AVG c SORT a'), 'a b c');
  assert.equal(revealing('LOGS COUNT BY origin SORT origin'), 'origin');
  assert.equal(revealing('METRIC cpu[] SORT value'), 'value');
});

test('[ACL-52] [ACL-39] the other side of a condition: only identifiers that grant what it looks at', async () => {
  const { session } = await sessionOver({
    'Metrics\\*': OPEN,
    'Metrics\\secret': CLOSED,
    'Metrics\\hush': denying('value'),
    'Metrics\\part': denying('core'),
    'Logs\\*': OPEN,
    'Logs\\mute': denying('message'),
  });
  const usable = (type: DataType, names: readonly string[], ...needed: FieldPath[]) =>
    usableIdentifiers(session, type, new Map(names.map((name) => [name, [['core']]])), needed);
  const metrics = ['cpu', 'secret.x', 'hush.x', 'part.x'];
  assert.deepEqual(await usable('metrics', metrics), ['cpu', 'hush.x', 'part.x']);
  assert.deepEqual(await usable('metrics', metrics, ['value']), ['cpu', 'part.x']);
  assert.deepEqual(await usable('metrics', metrics, ['value'], ['core']), ['cpu']);
  assert.deepEqual(await usable('logs', ['sshd', 'mute'], ['message']), ['sshd']);
  assert.deepEqual(await usable('logs', ['sshd', 'mute']), ['sshd', 'mute']);
});

test('[ACL-40] names that SQL cannot tell apart are all hidden where one of them is', async () => {
  const { session, caller } = await sessionOver({ 'Logs\\*': OPEN });
  const inner = caller.check.bind(caller);
  caller.check = (request) =>
    request.auditContext === 'logs:SSHD' ? Promise.reject(new Error('EFAULT')) : inner(request);
  const present = new Map<string, readonly FieldPath[]>([
    ['sshd', []],
    ['SSHD', []],
    ['cron', []],
  ]);
  assert.deepEqual(await usableIdentifiers(session, 'logs', present, []), ['cron']);
});

test('[ACL-31] with nothing to see, whatever the query, the same plan is left', async () => {
  const nothing = { 'Events\\*': CLOSED };
  const plans = [];
  for (const text of ['EVENTS', 'EVENTS never.heard.of']) {
    const { access } = await accessOf(text, nothing);
    plans.push(access.restrict(null));
    assert.equal(access.shown.size, 0);
  }
  assert.deepEqual(plans[0], plans[1]);
  const conditions: QueryAccess = (await accessOf('EVENTS WHERE x == 1', nothing)).access;
  const where = parseQuery('EVENTS WHERE x == 1');
  assert.ok(where.mode === 'EVENTS' && where.where !== null);
  const planned: PlanCondition = planCondition(where.where, 0n, planField);
  assert.equal(conditions.restrict(planned).kind, 'and');
});
