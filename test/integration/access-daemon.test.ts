/**
 * Access control in the real eventd: edits of the hive while it runs, what open streams make of them, and
 * audit records that come back as events. One daemon serves the tests of this file.
 */
import assert from 'node:assert/strict';
import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import { sddlToSecurityDescriptor } from '../../src/access/sddl.js';
import { runRegistryCommand } from '../../src/registry/edit.js';
import { SECURITY_KEY } from '../../src/registry/names.js';
import { encodeRequest } from '../../src/wire/messages.js';
import { askAsOrdinary, connectAs, ORDINARY_UID, whileSomebodyElse } from '../fixtures/asUser.js';
import { type EventdRun, EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords, gauge, line } from '../fixtures/eventdRecords.js';
import { StreamClient } from '../fixtures/streams.js';

/** An edit is in force within about a second, a busy machine granted; where changes are not heard of, in two. */
const SOON_MS = 1000;

const CLOSED = 'O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;BA)';
const OPEN = `${CLOSED}(A;;0x1;;;S-1-22-1-${ORDINARY_UID})`;

/** Origin class of the access control subsystem, as records show it (CFG-87). */
const ORIGIN_KACS = 2;

let world: EventdWorld;
let run: EventdRun;
let records: EventdRecords;

before(async () => {
  world = new EventdWorld({ settings: { LogMaxBatchLatencyMs: 20, MetricMaxBatchLatencyMs: 20 } });
  for (const path of [world.dir, world.paths.run]) chmodSync(path, 0o711);
  records = new EventdRecords(world);
  run = await world.start();
});

after(() => world.close());

const setSd = (type: string, pattern: string, sddl: string) =>
  runRegistryCommand(world.paths.hive, 'set-sd', [type, pattern, sddl]);
const unset = (type: string, pattern: string) =>
  runRegistryCommand(world.paths.hive, 'del', [`${SECURITY_KEY}\\${type}`, pattern]);

/** How many records the ordinary user gets. */
async function sees(query: string): Promise<number> {
  const { records: found, error } = await askAsOrdinary(world.paths.querySocket, query);
  assert.equal(error, null, query);
  return found.length;
}

/** Edits, and waits until the query shows so many records; gives the ms that took. */
async function takesEffect(edit: () => Promise<unknown>, query: string, count: number): Promise<number> {
  const edited = edit();
  const started = performance.now();
  await edited;
  await eventually(`${count} records of ${query}`, async () => (await sees(query)) === count);
  return performance.now() - started;
}

/** Whoever else has the cores may delay one or the other. */
function areSoon(times: readonly number[]): void {
  const median = [...times].sort((a, b) => a - b)[times.length >> 1] ?? SOON_MS;
  assert.ok(median < SOON_MS, `${times.map(Math.round).join(' ')} ms`);
}

const datagram = (origin: string) => encode(line('hello', { origin }));
const emit = (type: string, payload: object = {}) => world.emit(0, type, encode(payload));

async function streamOf(t: TestContext, query: string): Promise<StreamClient> {
  const client = new StreamClient(await connectAs(ORDINARY_UID, world.paths.querySocket));
  t.after(() => client.socket.destroy());
  client.socket.write(encodeRequest(query));
  await eventually('its beginning', () => client.messages.length > 0);
  return client;
}

test('[ACL-8] [ACL-46] [CFG-63] [CFG-64] [CFG-72] an edit of the hive opens and closes all three stores from the next query on', async () => {
  await Promise.all([
    setSd('Events', 'vault', CLOSED),
    setSd('Logs', 'vault', CLOSED),
    setSd('Metrics', 'vault', CLOSED),
  ]);
  emit('vault.door', { x: 1 });
  await world.stored(0);
  await records.send('log', line('hidden', { origin: 'vault.door' }));
  await records.send('metric', gauge('vault.door', 1));
  await eventually('all of it is stored', async () => {
    const found = await Promise.all(
      ['EVENTS vault.*', 'LOGS FROM vault.door', 'METRIC vault.*[]'].map((text) => world.query(text)),
    );
    return found.every(({ length }) => length === 1);
  });
  const stores = [
    ['Events', 'EVENTS vault.door'],
    ['Logs', 'LOGS FROM vault.door'],
    ['Metrics', 'METRIC vault.*[]'],
  ] as const;
  for (const [, query] of stores) assert.equal(await sees(query), 0, query);
  const times: number[] = [];
  const all = async (edit: (type: string) => Promise<unknown>, count: number) =>
    times.push(
      ...(await Promise.all(stores.map(([type, query]) => takesEffect(() => edit(type), query, count)))),
    );
  await all((type) => setSd(type, 'vault.door', OPEN), 1);
  await all((type) => setSd(type, 'vault.door', CLOSED), 0);
  await all((type) => setSd(type, 'vault.door', OPEN), 1);
  await all((type) => unset(type, 'vault.door'), 0);
  areSoon(times);
});

test('[ACL-48] [HOST-63] a hive with a broken descriptor changes nothing, and its next good state does', async () => {
  emit('broken.door');
  await world.stored(0);
  await takesEffect(() => setSd('Events', 'broken', OPEN), 'EVENTS broken.door', 1);
  const good = readFileSync(world.paths.hive, 'utf8');
  const broken = good.replace(/("broken"=sddl:)"[^"]*"/, '$1"O:SYG:SYD:(A;;0x1;;;NOBODY)"');
  assert.notEqual(broken, good);
  write(broken);
  try {
    await eventually('the complaint', () => /registry unavailable.*SDDL: unknown SID/.test(run.stderr));
    assert.equal(await sees('EVENTS broken.door'), 1);
  } finally {
    write(good);
  }
  const mended = good.replace(/("broken"=sddl:)"[^"]*"/, `$1"${CLOSED}"`);
  await takesEffect(async () => write(mended), 'EVENTS broken.door', 0);
});

/** As editors do it: nobody sees half a file. */
function write(hive: string): void {
  writeFileSync(`${world.paths.hive}.new`, hive, { mode: 0o600 });
  renameSync(`${world.paths.hive}.new`, world.paths.hive);
}

test('[ACL-9] a value that is no descriptor denies what it covers', async () => {
  emit('wrong.door');
  await world.stored(0);
  await takesEffect(() => setSd('Events', 'wrong', OPEN), 'EVENTS wrong.door', 1);
  const edit = () =>
    runRegistryCommand(world.paths.hive, 'set', [`${SECURITY_KEY}\\Events`, 'wrong', '"O:SYG:SY"']);
  await takesEffect(edit, 'EVENTS wrong.door', 0);
});

test('[ACL-49] [ACL-50] [STR-13] an open stream follows the hive in both directions', async (t) => {
  await setSd('Events', 'pipe', OPEN);
  await setSd('Events', 'pipe.secret', CLOSED);
  const client = await streamOf(t, 'EVENTS pipe.* TAKE 0 SELECT n, event_type STREAM');
  let n = 0;
  /** Emits a hidden and then an open event until the stream agrees; gives the ms that took. */
  const until = async (shows: boolean): Promise<number> => {
    const started = performance.now();
    for (;;) {
      n++;
      emit('pipe.secret', { n });
      emit('pipe.open', { n });
      await eventually(`event ${n}`, () => openOnes().includes(n));
      if (secretOnes().includes(n) === shows) return performance.now() - started;
      assert.ok(performance.now() - started < 10 * SOON_MS, 'the stream does not follow');
    }
  };
  const of = (type: string) =>
    client.records.filter(({ event_type }) => event_type === type).map((record) => Number(record.n));
  const openOnes = () => of('pipe.open');
  const secretOnes = () => of('pipe.secret');
  await until(false);
  const times: number[] = [];
  for (const shows of [true, false, true, false]) {
    await setSd('Events', 'pipe.secret', shows ? OPEN : CLOSED);
    times.push(await until(shows));
    // From then on it holds.
    const from = n;
    for (let i = 0; i < 5; i++) emit('pipe.secret', { n: ++n });
    emit('pipe.open', { n: ++n });
    await eventually(`event ${n}`, () => openOnes().includes(n));
    assert.equal(secretOnes().filter((number) => number > from).length, shows ? 5 : 0);
  }
  areSoon(times);
  // Every open event once and in order, whatever the hive did meanwhile.
  assert.deepEqual(openOnes(), [...new Set(openOnes())]);
  assert.equal(client.closed, false);
});

test('[ACL-47] [ACL-53] [ACL-84] [ACL-85] [ACL-2] reads are audited as the SACL asks, once each, and come back as events', async (t) => {
  const audited = (sddl: string) => `${sddl}S:(AU;SAFA;0x1;;;WD)`;
  for (const type of ['open.a', 'open.b', 'shut']) emit(`audit.${type}`, { x: 1 });
  emit('quiet', { x: 1 });
  await world.stored(0);
  await records.send('log', line('hello', { origin: 'audit.log' }));
  await setSd('Logs', 'audit', audited(OPEN));
  await setSd('Events', 'audit', audited(OPEN));
  await setSd('Events', 'audit.shut', audited(CLOSED));
  await takesEffect(() => setSd('Events', 'quiet', OPEN), 'EVENTS quiet', 1);

  const user = `S-1-22-1-${ORDINARY_UID}`;
  /** Of the ordinary user's reads, oldest first. */
  const audits = async () =>
    (await records.ask('EVENTS access-audit SORT sequence')).flatMap((event) => {
      const { subject, trigger, object_context, requested_access, granted_access, success, origin_class } =
        event as unknown as AuditRecord;
      if (subject.user_sid !== user) return [];
      const context = Buffer.from(object_context).toString();
      const [requested, granted] = [Number(requested_access), Number(granted_access)];
      return [{ context, success, requested, granted, kind: trigger.kind, origin: origin_class }];
    });
  assert.equal(await sees('EVENTS audit.* WHERE x == 1'), 2);
  assert.equal(await sees('EVENTS audit.shut'), 0);
  assert.equal(await sees('LOGS FROM audit.log COUNT'), 1);
  assert.equal(await sees('EVENTS quiet COUNT BY x'), 1);
  await eventually('the records', async () => (await audits()).length >= 5);
  const record = (context: string, success: boolean) => ({
    context,
    success,
    requested: 1,
    granted: success ? 1 : 0,
    kind: 'sacl',
    origin: ORIGIN_KACS,
  });
  const found = await audits();
  assert.deepEqual(found.slice(0, 3).sort(byContext), [
    record('events:audit.open.a', true),
    record('events:audit.open.b', true),
    record('events:audit.shut', false),
  ]);
  assert.deepEqual(found.slice(3), [record('events:audit.shut', false), record('logs:audit.log', true)]);
  // A stream asks once, however many batches it sees.
  const client = await streamOf(t, 'EVENTS audit.open.a TAKE 0 STREAM');
  for (let n = 1; n <= 5; n++) {
    emit('audit.open.a');
    await client.has(n);
  }
  await eventually('its record', async () => (await audits()).length >= 6);
  assert.deepEqual((await audits()).slice(5), [record('events:audit.open.a', true)]);
});

/** What the test looks at of an event of type `access-audit` (ACL-85). */
interface AuditRecord {
  readonly subject: { readonly user_sid: string };
  readonly trigger: { readonly kind: string };
  readonly object_context: Uint8Array;
  readonly requested_access: unknown;
  readonly granted_access: unknown;
  readonly success: boolean;
  readonly origin_class: unknown;
}

const byContext = (a: { context: string }, b: { context: string }) => (a.context < b.context ? -1 : 1);

test('[ACL-4] [ACL-3] [LOG-8] who may not read may write, and it is stored for those who may', async () => {
  await setSd('Logs', 'write-only', CLOSED);
  await takesEffect(() => setSd('Logs', 'vault', OPEN), 'LOGS FROM vault.door', 1);
  assert.equal(
    whileSomebodyElse(ORDINARY_UID, () => records.offer('log', datagram('write-only'))),
    true,
  );
  await eventually('the line', async () => (await world.query('LOGS FROM write-only')).length === 1);
  assert.equal(await sees('LOGS FROM write-only'), 0);
  assert.equal(await sees('LOGS FROM write-only COUNT'), await sees('LOGS FROM nobody COUNT'));
});

test('[ACL-56] [ACL-57] [ACL-58] [IDX-43] [IDX-44] EVENTS INDEX asks admin_sd as it is now, and neither the hive nor the caller decides', async () => {
  await setSd('Events', '*', OPEN);
  const index = async () => (await askAsOrdinary(world.paths.querySocket, 'EVENTS INDEX cpu_id')).error;
  const denied = 'access denied: EVENTS INDEX is for administrators of the index policy';
  assert.equal(await index(), denied);
  const meta = new Database(join(world.events, 'eventd-meta.db'));
  try {
    const set = (descriptor: Uint8Array) =>
      meta.prepare("UPDATE meta SET value = ? WHERE key = 'admin_sd'").run(descriptor);
    assert.equal(set(sddlToSecurityDescriptor(OPEN)).changes, 1);
    assert.equal(await index(), null);
    set(sddlToSecurityDescriptor(CLOSED));
    assert.equal(await index(), denied);
    set(Buffer.from('no descriptor'));
    assert.equal(await index(), denied);
  } finally {
    meta.close();
  }
});
