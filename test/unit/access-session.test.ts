import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AccessSession } from '../../src/access/accessSession.js';
import { cutUtf8, storedDescriptor } from '../../src/access/caller.js';
import { fieldGuid } from '../../src/access/fieldGuid.js';
import { sddlToSecurityDescriptor } from '../../src/access/sddl.js';
import type { SecurityPatterns } from '../../src/access/securityPatterns.js';
import type { Token } from '../../src/access/token.js';
import { VerdictCache } from '../../src/access/verdictCache.js';
import { formatPlainGuid } from '../../src/host/guid.js';
import {
  CountingCaller,
  FakeSecurity,
  M,
  N,
  patternsOf,
  tell,
  tokenOf,
  userToken,
} from '../fixtures/access.js';

const guid = (name: string) => formatPlainGuid(fieldGuid(name));
const OPEN = 'O:SYG:SYD:(A;;0x1;;;AU)';
const CLOSED = 'O:SYG:SYD:(A;;0x1;;;SY)';
const WITHOUT_TARGET = `O:SYG:SYD:(OD;;0x1;${guid('target_sid')};;AU)(A;;0x1;;;AU)`;

interface World {
  readonly security: FakeSecurity;
  readonly patterns: SecurityPatterns;
  readonly caller: CountingCaller;
  readonly session: AccessSession;
}

async function world(values: Readonly<Record<string, string>>, token: Token = userToken()): Promise<World> {
  const security = new FakeSecurity();
  for (const [path, sddl] of Object.entries(values)) security.set(path, sddl);
  const patterns = await patternsOf(security);
  const caller = new CountingCaller(token);
  return { security, patterns, caller, session: await AccessSession.open(caller, patterns) };
}

const present = (names: Readonly<Record<string, readonly string[]>>) =>
  new Map(Object.entries(names).map(([name, fields]) => [name, fields.map((field) => field.split('.'))]));

test('[ACL-28] [ACL-29] only identifiers with something to see come back, with what is hidden in them', async () => {
  const { session } = await world({
    'Events\\*': OPEN,
    'Events\\secret': CLOSED,
    'Events\\kacs': WITHOUT_TARGET,
  });
  const names = present({ plain: ['x'], 'secret.plan': ['x'], 'kacs.denied': ['target_sid', 'y'] });
  const readable = await session.readable('events', names);
  assert.deepEqual([...readable.keys()], ['plain', 'kacs.denied']);
  assert.equal(readable.get('plain')?.everything, true);
  const partial = readable.get('kacs.denied');
  assert.equal(partial?.everything, false);
  assert.deepEqual(
    ['y', 'timestamp', 'target_sid', 'never asked about', ''].map((name) => partial?.mayShow(name)),
    [true, true, false, false, false],
  );
});

test('[ACL-30] a record is visible as soon as one field is granted, and hidden when none is', async () => {
  const values = { 'Events\\*': `O:SYG:SYD:(OA;;0x1;${guid('y')};;AU)` };
  const { session } = await world(values);
  const some = await session.visibility('events', 'a', [['y'], ['z']]);
  assert.deepEqual([some.visible, some.mayShow('y'), some.mayShow('timestamp')], [true, true, false]);
  const none = await session.visibility('events', 'a', [['z']]);
  assert.deepEqual([none.visible, none.mayShow('z')], [false, false]);
});

test('[ACL-31] denied and absent identifiers take the same way and look the same', async () => {
  const { session } = await world({ 'Events\\*': CLOSED });
  const denied = await session.visibility('events', 'exists');
  const absent = await session.visibility('events', 'never heard of');
  assert.deepEqual(denied, absent);
  assert.equal(denied.visible, false);
  assert.equal((await session.readable('events', present({ exists: [] }))).size, 0);
  assert.equal((await session.readable('events', present({}))).size, 0);
});

test('[ACL-43] without object ACEs one check of the root serves every record of an identifier', async () => {
  const { session, caller } = await world({ 'Events\\*': OPEN });
  for (let record = 0; record < 10_000; record++) {
    await session.visibility('events', `type.${record % 20}`, [[`field${record}`]]);
  }
  assert.equal(caller.requests.length, 20);
  assert.ok(caller.requests.every(({ nodes }) => nodes?.length === 1));
});

test('[ACL-43] inherit-only object ACEs and those of the SACL do not count', async () => {
  const only = `O:SYG:SYD:(OA;IO;0x1;${guid('x')};;AU)(A;;0x1;;;AU)S:(OU;SA;0x1;${guid('x')};;WD)`;
  const { session, caller } = await world({ 'Events\\*': only });
  await session.visibility('events', 'a', [['x']]);
  await session.visibility('events', 'a', [['y']]);
  assert.equal(caller.requests.length, 1);
});

test('[ACL-42] [ACL-44] with object ACEs one check serves each set of fields, in whatever order they come', async () => {
  const { session, caller } = await world({ 'Events\\*': WITHOUT_TARGET });
  await session.visibility('events', 'a', [['x'], ['y']]);
  await session.visibility('events', 'a', [['y'], ['x'], ['y']]);
  await Promise.all([
    session.visibility('events', 'a', [['x', 'z']]),
    session.visibility('events', 'a', [['x', 'z']]),
  ]);
  await session.visibility('events', 'a', [['timestamp'], ['x'], ['y']]);
  assert.equal(caller.requests.length, 2);
  await session.visibility('events', 'b', [['x'], ['y']]);
  assert.equal(caller.requests.length, 3);
});

test('[ACL-42] a session keeps a bounded number of verdicts, and forgets the oldest', async () => {
  const { session, caller } = await world({ 'Events\\*': OPEN });
  const long = 'x'.repeat(100_000);
  for (let type = 0; type < 60; type++) await session.visibility('events', `${type}${long}`);
  await session.visibility('events', `59${long}`);
  await session.visibility('events', `30${long}`);
  assert.equal(caller.requests.length, 60);
  await session.visibility('events', `0${long}`);
  assert.equal(caller.requests.length, 61);
  // Forgotten sets of fields are made anew.
  const fields = Array.from({ length: 900 }, (_, index) => [`f${index}`]);
  const wide = await world({ 'Events\\*': WITHOUT_TARGET });
  for (let set = 0; set < 80; set++) await wide.session.visibility('events', 'a', [...fields, [`set${set}`]]);
  const again = await wide.session.visibility('events', 'a', [...fields, ['set0'], ['target_sid']]);
  assert.deepEqual(
    [again.mayShow('set0'), again.mayShow('f899'), again.mayShow('target_sid')],
    [true, true, false],
  );
});

test('[ACL-42] [ACL-44] verdicts about fields weigh what their fields do, and go with them', () => {
  const cache = new VerdictCache();
  /** Takes one more verdict; returns how many fields those kept are about. */
  const take = (identifier: string, names: readonly string[]): number => {
    const fields = cache.sets.of(
      'events',
      [...names, identifier].map((name) => [name]),
    );
    const granted = fields.lists.map(({ nodes }) => nodes.map(() => true));
    const visibility = Promise.resolve(cache.sets.visibility(fields, granted));
    const about = { type: 'events', identifier, descriptor: null, fields, failed: false } as const;
    cache.take('events', identifier, fields, () => ({ ...about, visibility }));
    let kept = 0;
    cache.forget((verdict) => {
      kept += verdict.fields?.size ?? 0;
      return false;
    });
    return kept;
  };
  const wide = Array.from({ length: 1000 }, (_, index) => `f${index}`);
  const kept = Array.from({ length: 150 }, (_, set) => take(`t${set}`, wide));
  assert.ok(Math.max(...kept) > 30_000 && Math.max(...kept) < 65_536, `${Math.max(...kept)} fields`);
  // So do long names, however few.
  const long = 'x'.repeat(1_000_000);
  const few = Array.from({ length: 30 }, (_, set) => take(`${set}${long}`, []));
  assert.ok(Math.max(...few.slice(10)) < 200, `${Math.max(...few.slice(10))} fields`);
});

test('[ACL-42] thousands of identifiers do not keep others from their turn', async () => {
  const { session } = await world({ 'Events\\*': OPEN });
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  await session.readable('events', new Map(Array.from({ length: 5000 }, (_, index) => [`t${index}`, []])));
  clearInterval(timer);
  assert.ok(turns > 3, `${turns} turns`);
});

test('[ACL-47] [ACL-53] each identifier is checked under its own name, once per connection', async () => {
  const first = await world({ 'Events\\*': OPEN, 'Logs\\*': OPEN, 'Metrics\\*': OPEN });
  await first.session.visibility('events', 'kacs.a');
  await first.session.visibility('events', 'kacs.b');
  await first.session.visibility('logs', 'sshd');
  await first.session.visibility('metrics', 'cpu');
  const contexts = ['events:kacs.a', 'events:kacs.b', 'logs:sshd', 'metrics:cpu'];
  assert.deepEqual(
    first.caller.requests.map(({ auditContext }) => auditContext),
    contexts,
  );
  const second = new CountingCaller(userToken());
  const session = await AccessSession.open(second, first.patterns);
  await session.visibility('events', 'kacs.a');
  assert.equal(second.requests.length, 1);
});

test('[ACL-53] the audit context is cut at 4096 bytes, between characters', async () => {
  const { session, caller } = await world({ 'Events\\*': OPEN });
  await session.visibility('events', 'ä'.repeat(4096));
  const context = caller.requests[0]?.auditContext ?? '';
  assert.equal(Buffer.byteLength(context), 4095);
  assert.equal(context, `events:${'ä'.repeat(2044)}`);
  assert.equal(cutUtf8('a€', 3), 'a');
  assert.equal(cutUtf8('a😀b', 5), 'a😀');
  assert.equal(cutUtf8('abc', 3), 'abc');
});

test('[ACL-54] [ACL-55] conditions see data type and identifier; what cannot be a claim is left out', async () => {
  const sddl = 'O:SYG:SYD:(XA;;0x1;;;AU;(Identifier == "SSHD" && DataType == "logs"))';
  const { session, caller } = await world({ 'Logs\\*': sddl, 'Events\\*': sddl });
  assert.equal((await session.visibility('logs', 'sshd')).visible, true);
  assert.equal((await session.visibility('logs', 'cron')).visible, false);
  assert.equal((await session.visibility('events', 'sshd')).visible, false);
  for (const odd of ['a\0b', 'x'.repeat(60_000)]) {
    assert.equal((await session.visibility('logs', odd)).visible, false);
    assert.deepEqual(
      caller.requests.at(-1)?.localClaims.map(({ name }) => name),
      ['DataType'],
    );
  }
});

test('[ACL-39] a series counts only where its value is granted', async () => {
  const values = {
    'Metrics\\*': OPEN,
    'Metrics\\hidden': `O:SYG:SYD:(OD;;0x1;${guid('value')};;AU)(A;;0x1;;;AU)`,
  };
  const { session } = await world(values);
  const readable = await session.readable('metrics', present({ cpu: ['core'], hidden: ['core'] }));
  assert.deepEqual(
    [...readable].map(([name, seen]) => [name, seen.mayShow('value')]),
    [
      ['cpu', true],
      ['hidden', false],
    ],
  );
});

test('[ACL-40] [ACL-41] a check that fails denies; what was decided before stays good for its query', async () => {
  const { session, caller } = await world({ 'Events\\*': OPEN });
  assert.equal((await session.visibility('events', 'a')).visible, true);
  caller.failing = true;
  assert.equal((await session.visibility('events', 'b')).visible, false);
  assert.equal((await session.visibility('events', 'a')).visible, true);
  // It is made again when a stream asks for that, neither for each record nor for each batch.
  assert.deepEqual([session.hasFailed, session.isStale, await session.nextBatch()], [true, false, false]);
  await session.visibility('events', 'b');
  assert.equal(caller.requests.length, 2);
  caller.failing = false;
  session.retryFailed();
  assert.equal(await session.nextBatch(), true);
  assert.equal(session.hasFailed, false);
  assert.equal((await session.visibility('events', 'b')).visible, true);
  assert.equal(caller.requests.length, 3);
});

test('[ACL-41] where all identifiers were alike before checks failed, they stay alike for their query', async () => {
  const { security, patterns, session, caller } = await world({ 'Events\\*': OPEN, 'Logs\\*': OPEN });
  assert.equal(await session.uniformity('logs'), 'everything');
  caller.failing = true;
  assert.equal(await session.uniformity('events'), 'various');
  session.retryFailed();
  assert.equal(await session.nextBatch(), true);
  assert.deepEqual(await Promise.all([session.uniformity('logs'), session.uniformity('events')]), [
    'everything',
    'various',
  ]);
  caller.failing = false;
  session.retryFailed();
  assert.equal(await session.nextBatch(), true);
  assert.equal(await session.uniformity('events'), 'everything');
  // A change of the other type is none of this one.
  const { length } = caller.requests;
  tell(patterns, security.set('Events\\*', CLOSED));
  assert.equal(await session.nextBatch(), true);
  assert.deepEqual(await Promise.all([session.uniformity('logs'), session.uniformity('events')]), [
    'everything',
    'nothing',
  ]);
  assert.equal(caller.requests.length, length + 1);
});

test('[ACL-40] [ACL-64] a descriptor without owner denies, and no check is made with it', async () => {
  const ownerless = 'G:SYD:(A;;0x1;;;AU)';
  const { session, caller } = await world({ 'Events\\*': OPEN, 'Events\\bad': ownerless });
  assert.equal((await session.visibility('events', 'bad.a')).visible, false);
  assert.equal(await session.uniformity('events'), 'various');
  assert.deepEqual([caller.requests.length, session.hasFailed], [1, false]);
});

test('[ACL-40] a kernel that answers for fewer nodes than it was asked about denies', async () => {
  const { session, caller } = await world({ 'Events\\*': OPEN });
  caller.check = async () => [];
  assert.equal((await session.visibility('events', 'a')).visible, false);
});

test('[ACL-46] [CFG-72] a changed descriptor holds from the next query on, not within one', async () => {
  const { security, patterns, session } = await world({ 'Events\\*': OPEN });
  tell(patterns, security.set('Events\\*', CLOSED));
  assert.equal((await session.visibility('events', 'a')).visible, true);
  const next = await AccessSession.open(new CountingCaller(userToken()), patterns);
  assert.equal((await next.visibility('events', 'a')).visible, false);
});

test('[ACL-49] [ACL-50] a stream checks anew what changed and what is new, and nothing else', async () => {
  const { security, patterns, session, caller } = await world({ 'Events\\*': OPEN, 'Events\\b': OPEN });
  await session.visibility('events', 'a');
  await session.visibility('events', 'b');
  assert.equal(await session.nextBatch(), false);
  tell(patterns, security.set('Events\\b', CLOSED));
  assert.equal(await session.nextBatch(), true);
  assert.equal((await session.visibility('events', 'a')).visible, true);
  assert.equal(caller.requests.length, 2);
  assert.equal((await session.visibility('events', 'b')).visible, false);
  assert.equal((await session.visibility('events', 'new')).visible, true);
  assert.equal(caller.requests.length, 4);
  // A pattern that appears over a known identifier counts as a change, too.
  tell(patterns, security.set('Events\\a', CLOSED));
  assert.equal(await session.nextBatch(), true);
  assert.equal((await session.visibility('events', 'a')).visible, false);
  // Rewritten with the same bytes is no change.
  tell(patterns, security.set('Events\\*', OPEN));
  assert.equal(await session.nextBatch(), false);
});

test('[ACL-56] [ACL-57] [ACL-58] INDEX asks admin_sd alone, for the whole object, and refuses without one', async () => {
  const administrators = storedDescriptor(sddlToSecurityDescriptor('O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;BA)'));
  const may = async (token: Token, descriptor = administrators as typeof administrators | null) => {
    const { session, caller } = await world({ 'Events\\*': OPEN }, token);
    return { allowed: await session.mayAdminister(descriptor), requests: caller.requests };
  };
  assert.equal((await may(userToken())).allowed, false);
  const { allowed, requests } = await may(userToken(['BA']));
  assert.equal(allowed, true);
  assert.deepEqual(
    requests.map(({ nodes, auditContext }) => [nodes, auditContext]),
    [[null, 'admin:index']],
  );
  assert.equal((await may(tokenOf('SY', []))).allowed, true);
  assert.equal((await may(tokenOf('SY', []), null)).allowed, false);
  const { session, caller } = await world({}, tokenOf('SY', []));
  caller.failing = true;
  assert.equal(await session.mayAdminister(administrators), false);
});

test('[ACL-21] [ACL-30] the team of the worked example sees its three fields and no more', async () => {
  const fields = ['timestamp', 'event_type', 'cpu_id']
    .map((name) => `(OA;;0x1;${guid(name)};;${M})`)
    .join('');
  const { session } = await world({ 'Events\\*': `O:SYG:SYD:(A;;0x1;;;${N})${fields}` }, userToken([M]));
  const seen = await session.visibility('events', 'kacs.access_denied', [
    ['granted_access'],
    ['source', 'name'],
  ]);
  const shown = ['timestamp', 'event_type', 'cpu_id', 'boot_id', 'granted_access', 'source.name'].filter(
    seen.mayShow,
  );
  assert.deepEqual(shown, ['timestamp', 'event_type', 'cpu_id']);
});

test('[QX-68] [QX-64] a session that nobody waits for any more checks no further, and none is opened', async () => {
  const { patterns, caller } = await world({ 'Events\\*': OPEN });
  const over = new AbortController();
  const session = await AccessSession.open(caller, patterns, over.signal);
  const names = new Map(Array.from({ length: 100 }, (_, index) => [`t${index}`, []]));
  const reading = session.readable('events', names);
  const begun = caller.requests.length;
  over.abort();
  await assert.rejects(reading, { name: 'AbortError' });
  assert.ok(begun > 0 && begun < names.size);
  assert.equal(caller.requests.length, begun);
  await assert.rejects(AccessSession.open(caller, patterns, over.signal), { name: 'AbortError' });
});

test('[ACL-26] the caller goes with the connection', async () => {
  const { session, caller } = await world({ 'Events\\*': OPEN });
  session.close();
  assert.equal(caller.closed, 1);
});

test('[ACL-47] [ACL-55] spellings matter to conditions, to policies, and to an audit trail', async () => {
  const { session } = await world({
    'Events\\*': OPEN,
    'Events\\asks': 'O:SYG:SYD:(XA;;0x1;;;AU;(Identifier == "asks"))',
    'Events\\audits': `${OPEN}S:(AU;SA;0x1;;;WD)`,
  });
  const spelt = ['asks.a', 'audits.a', 'plain', undefined].map((name) =>
    session.tellsSpellingsApart('events', name),
  );
  assert.deepEqual(spelt, [true, true, false, true]);
});

test('[ACL-46] [ACL-49] a stream asks again for what went on changing while it was read', async () => {
  const { security, patterns, session } = await world({ 'Events\\*': OPEN });
  security.duringRead = () => tell(patterns, security.set('Events\\*', OPEN));
  tell(patterns, security.set('Events\\*', OPEN));
  await session.nextBatch();
  security.duringRead = null;
  assert.equal((await session.visibility('events', 'a')).visible, false);
  assert.equal(session.isStale, true);
  assert.equal(await session.nextBatch(), true);
  assert.equal((await session.visibility('events', 'a')).visible, true);
  assert.equal(session.isStale, false);
});
