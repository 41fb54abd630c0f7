import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DataType } from '../../src/access/fieldLists.js';
import { SecurityPatterns } from '../../src/access/securityPatterns.js';
import { RegistryError } from '../../src/registry/registryError.js';
import { szData } from '../../src/registry/value.js';
import { FakeSecurity, patternsOf, tell } from '../fixtures/access.js';

const OPEN = 'O:SYG:SYD:(A;;0x1;;;AU)';
const CLOSED = 'O:SYG:SYD:';

function security(...names: readonly string[]): FakeSecurity {
  const values = new FakeSecurity();
  for (const name of names) values.set(name, OPEN);
  return values;
}

/** The pattern that governs, or `denied`. */
function governing(patterns: SecurityPatterns, identifier: string, type: DataType = 'events'): string {
  const { pattern, descriptor } = patterns.view(type).governing(identifier);
  return descriptor === null ? 'denied' : (pattern ?? 'none');
}

test('[ACL-6] [ACL-7] the most specific pattern wins: the identifier, then prefixes at dots, then *', async () => {
  const patterns = await patternsOf(
    security('Events\\*', 'Events\\kacs', 'Events\\kacs.access', 'Events\\kacs.access.denied', 'Events\\cpu'),
  );
  const cases = {
    'kacs.access.denied': 'kacs.access.denied',
    'kacs.access.denied.twice': 'kacs.access.denied',
    'kacs.access.granted': 'kacs.access',
    'kacs.access': 'kacs.access',
    'kacs.other': 'kacs',
    kacs: 'kacs',
    'kacs.': 'kacs',
    'kacs..x': 'kacs',
    kacsfoo: '*',
    kacs_foo: '*',
    cpu_usage: '*',
    'cpu.usage': 'cpu',
    'access-audit': '*',
    '.kacs': '*',
    'other.kacs': '*',
  };
  for (const [identifier, pattern] of Object.entries(cases)) {
    assert.equal(governing(patterns, identifier), pattern, identifier);
  }
});

test('[ACL-7] a narrower descriptor replaces a broader one, in both directions', async () => {
  const values = security('Events\\*', 'Events\\open.closed.open');
  values.set('Events\\open.closed', CLOSED);
  const view = (await patternsOf(values)).view('events');
  const aces = (identifier: string) => view.governing(identifier).descriptor?.compiled.dacl?.length;
  assert.deepEqual(['open', 'open.closed', 'open.closed.open'].map(aces), [1, 0, 1]);
});

test('[ACL-5] the three data types know nothing of each other', async () => {
  const patterns = await patternsOf(
    security('Events\\*', 'Events\\x', 'Logs\\*', 'Metrics\\*', 'Metrics\\x'),
  );
  assert.equal(governing(patterns, 'x', 'events'), 'x');
  assert.equal(governing(patterns, 'x', 'logs'), '*');
  assert.equal(governing(patterns, 'x', 'metrics'), 'x');
});

test('[ACL-9] a wrong type or malformed bytes deny, and the broader pattern does not step in', async () => {
  const values = security('Events\\*', 'Events\\fine');
  values.set('Events\\text', szData(OPEN));
  values.set('Events\\broken', { type: 3, data: new Uint8Array(20) });
  // Well-formed but for an ACE that only a check would look at.
  values.set('Events\\label', 'O:SYG:SYD:(A;;0x1;;;AU)S:(ML;;0x1;;;BA)');
  const warnings: string[] = [];
  const patterns = await patternsOf(values, warnings);
  for (const name of ['text', 'broken', 'label']) {
    assert.equal(governing(patterns, name), 'denied');
    assert.equal(governing(patterns, `${name}.deeper`), 'denied');
    assert.ok(warnings.some((text) => text.includes(`"${name}"`)));
  }
  assert.equal(governing(patterns, 'fine'), 'fine');
});

test('[ACL-10] names are compared without case, beyond ASCII too', async () => {
  const patterns = await patternsOf(security('Events\\*', 'Events\\KACS.Denied', 'Events\\straße.Öl'));
  assert.equal(governing(patterns, 'kacs.dENIED.x'), 'KACS.Denied');
  assert.equal(governing(patterns, 'STRAßE.öL'), 'straße.Öl');
  assert.equal(governing(patterns, 'strasse.öl'), '*');
});

test('[ACL-11] no look-up of the unnamed value; impossible names are misses, not ends', async () => {
  const values = security('Events\\*', 'Events\\a', `Events\\a.${'x'.repeat(253)}`);
  values.set('Events\\', CLOSED);
  const patterns = await patternsOf(values);
  assert.equal(governing(patterns, ''), '*');
  assert.equal(governing(patterns, '.x'), '*');
  assert.equal(governing(patterns, 'a.b\0c'), 'a');
  assert.equal(governing(patterns, 'b\0.x'), '*');
  assert.equal(governing(patterns, `a.${'x'.repeat(253)}`), `a.${'x'.repeat(253)}`);
  assert.equal(governing(patterns, `a.${'x'.repeat(253)}.y`), `a.${'x'.repeat(253)}`);
  assert.equal(governing(patterns, `a.${'x'.repeat(254)}`), 'a');
  assert.equal(governing(patterns, `a.${'ä'.repeat(127)}`), 'a');
  assert.equal(governing(patterns, `a.${'x.'.repeat(40000)}`), 'a');
  assert.equal(governing(patterns, '.'.repeat(60000)), '*');
});

test('[ACL-12] [CFG-61] without * a data type is denied, narrower patterns included, and only that type', async () => {
  const warnings: string[] = [];
  const patterns = await patternsOf(security('Events\\kacs', 'Logs\\*'), warnings);
  assert.equal(governing(patterns, 'kacs'), 'denied');
  assert.equal(governing(patterns, 'x', 'logs'), '*');
  assert.equal(governing(patterns, 'x', 'metrics'), 'denied');
  assert.ok(warnings.some((text) => text.includes('Events') && text.includes('"*"')));
});

test('[ACL-12] [ACL-46] removing * while running denies at once, before anything is read again', async () => {
  const values = security('Events\\*', 'Events\\kacs');
  const patterns = await patternsOf(values);
  tell(patterns, values.remove('Events\\*'));
  assert.equal(governing(patterns, 'kacs'), 'denied');
  await patterns.refresh();
  assert.equal(governing(patterns, 'kacs'), 'denied');
});

test('[ACL-45] [ACL-46] descriptors are read once; a change denies until it is read, then holds', async () => {
  const values = security('Events\\*', 'Logs\\*', 'Metrics\\*');
  const patterns = await patternsOf(values);
  for (let query = 0; query < 50; query++) {
    await patterns.refresh();
    assert.equal(governing(patterns, `type.${query}`), '*');
  }
  assert.equal(values.reads, 3);
  const before = patterns.view('events');
  const { generation } = patterns;
  tell(patterns, values.set('Events\\type', OPEN));
  assert.ok(patterns.generation > generation);
  // A narrower pattern appeared: what it covers is nobody's until it was read (negative look-ups too).
  assert.equal(governing(patterns, 'type.1'), 'denied');
  assert.equal(governing(patterns, 'other'), '*');
  await patterns.refresh();
  assert.equal(values.reads, 4);
  assert.equal(governing(patterns, 'type.1'), 'type');
  // A view does not change under the query that holds it.
  assert.equal(before.governing('type.1').pattern, '*');
});

test('[ACL-46] changes elsewhere below eventd’s key cost nothing', async () => {
  const values = security('Events\\*', 'Logs\\*', 'Metrics\\*');
  const patterns = await patternsOf(values);
  const { generation } = patterns;
  tell(patterns, { type: 'valueSet', path: [], name: 'MaxBatchSize' });
  tell(patterns, { type: 'subkeyCreated', path: [], name: 'Other' });
  tell(patterns, { type: 'valueSet', path: ['Security', 'Other'], name: '*' });
  await patterns.refresh();
  assert.equal(patterns.generation, generation);
  assert.equal(values.reads, 3);
});

test('[ACL-46] [HOST-43] lost events and lost keys drop everything', async () => {
  for (const event of [
    { type: 'overflow' },
    { type: 'keyDeleted' },
    { type: 'subkeyDeleted', path: [], name: 'sECURITY' },
    { type: 'subkeyDeleted', path: ['Security'], name: 'Events' },
  ] as const) {
    const patterns = await patternsOf(security('Events\\*', 'Logs\\*', 'Metrics\\*'));
    tell(patterns, event);
    assert.equal(governing(patterns, 'x'), 'denied', event.type);
    await patterns.refresh();
    assert.equal(governing(patterns, 'x'), '*');
  }
});

test('[ACL-48] [HOST-47] [FAIL-26] while the registry is away the cache serves; what is not in it is denied', async () => {
  const values = security('Events\\*', 'Events\\kacs', 'Logs\\*', 'Metrics\\*');
  const warnings: string[] = [];
  const patterns = await patternsOf(values, warnings);
  values.failure = new RegistryError('EIO', 'the source is down');
  tell(patterns, values.set('Events\\kacs', CLOSED));
  for (let query = 0; query < 3; query++) {
    await patterns.refresh();
    assert.equal(governing(patterns, 'kacs.x'), 'denied');
    assert.equal(governing(patterns, 'other'), '*');
  }
  assert.equal(warnings.length, 1);
  values.failure = null;
  await patterns.refresh();
  assert.equal(governing(patterns, 'kacs.x'), 'kacs');

  const cold = new FakeSecurity();
  cold.failure = new RegistryError('ETIMEDOUT', 'no answer');
  assert.equal(governing(await patternsOf(cold), 'x'), 'denied');
  assert.equal(cold.reads, 1, 'no half minute for each type');
});

for (const code of ['EACCES', 'EIO'] as const) {
  test(`[ACL-48] [ACL-12] one key that cannot be read (${code}) denies what it covers and nothing else`, async () => {
    const values = security('Events\\*', 'Logs\\*', 'Metrics\\*');
    const patterns = new SecurityPatterns(
      {
        readValues: async (key) => {
          if (key.endsWith('\\Events')) throw new RegistryError(code, 'not for you');
          return values.readValues(key);
        },
      },
      { warn: () => undefined },
    );
    await patterns.refresh();
    assert.equal(governing(patterns, 'x'), 'denied');
    assert.notEqual(patterns.view('logs').governing('x').descriptor, null);
    assert.notEqual(patterns.view('metrics').governing('x').descriptor, null);
    assert.equal(patterns.isUnread, false, 'nobody need ask again and again');
  });
}

test('[ACL-46] a change in the middle of a read is never lost', async () => {
  const values = security('Events\\*', 'Logs\\*', 'Metrics\\*');
  const patterns = await patternsOf(values);
  let changes = 0;
  tell(patterns, values.set('Events\\*', CLOSED));
  values.duringRead = () => {
    if (changes++ === 0) tell(patterns, values.set('Events\\*', 'O:SYG:SYD:(A;;0x1;;;AU)(A;;0x1;;;BA)'));
  };
  await patterns.refresh();
  assert.equal(patterns.view('events').governing('x').descriptor?.compiled.dacl?.length, 2);
  // Changes without end leave it denied rather than old.
  values.duringRead = () => tell(patterns, values.set('Events\\*', OPEN));
  tell(patterns, values.set('Events\\*', OPEN));
  await patterns.refresh();
  assert.equal(governing(patterns, 'x'), 'denied');
});

test('[ACL-48] [ACL-49] [HOST-47] who waits is told when what could not be read has been read', async () => {
  const values = security('Events\\*', 'Logs\\*', 'Metrics\\*');
  const patterns = await patternsOf(values);
  let told = 0;
  patterns.onChange(() => told++);
  values.failure = new RegistryError('EIO', 'the source is down');
  tell(patterns, values.set('Events\\*', OPEN), values.set('Logs\\*', OPEN));
  assert.equal(told, 2);
  await patterns.refresh();
  await patterns.refresh();
  assert.deepEqual([told, patterns.isUnread], [2, false], 'no news, and nobody need ask again and again');
  values.failure = null;
  await patterns.refresh();
  assert.equal(told, 4, 'one for each type');
  assert.equal(governing(patterns, 'x'), '*');
  // What is read at the first attempt was told of already.
  tell(patterns, values.set('Events\\*', OPEN));
  await patterns.refresh();
  assert.equal(told, 5);
  // Neither is one left alone that went on changing while it was read.
  values.duringRead = () => tell(patterns, values.set('Events\\*', OPEN));
  tell(patterns, values.set('Events\\*', OPEN));
  await patterns.refresh();
  values.duringRead = null;
  assert.deepEqual([governing(patterns, 'x'), patterns.isUnread], ['denied', true]);
  const before = told;
  await patterns.refresh();
  assert.deepEqual([governing(patterns, 'x'), patterns.isUnread, told], ['*', false, before + 1]);
});
