/** Loading the configuration, and the constants of document 10 that the query language shows. */
import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Configuration } from '../../actors/daemon/configuration.js';
import { layoutOf, seedHive } from '../../src/devhost/layout.js';
import { QueryError } from '../../src/query/errors.js';
import { parseQuery } from '../../src/query/parser.js';
import { openEmbeddedRegistry } from '../../src/registry/embedded.js';
import { EVENTD_KEY } from '../../src/registry/names.js';
import type { Registry } from '../../src/registry/registry.js';
import { dwordData } from '../../src/registry/value.js';
import { ROLLUP_FUNCTIONS } from '../../src/rollups/pairs.js';
import { eventually } from '../fixtures/rawQueryClient.js';

const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

/** Somebody who changes one setting at the two worst moments: just before arming, just after reading. */
function meddled(registry: Registry, moment: 'arming' | 'reading', meddle: () => Promise<void>): Registry {
  let done = false;
  return new Proxy(registry, {
    get: (target, property: keyof Registry) => {
      if (property === 'readValues' && moment === 'reading') {
        return async (key: string) => {
          const values = await target.readValues(key);
          if (!done && key === EVENTD_KEY) {
            done = true;
            await meddle();
          }
          return values;
        };
      }
      return target[property].bind(target);
    },
  });
}

/** A registry over a hive of its own, both gone after the test; `replace` writes the whole hive anew. */
async function openHive(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'configuration-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const paths = layoutOf(dir, {}, 0);
  const text = seedHive(paths, 0);
  const replace = (content: string) => {
    writeFileSync(`${paths.hive}.new`, content, { mode: 0o600 });
    renameSync(`${paths.hive}.new`, paths.hive);
  };
  replace(text);
  return { text, replace, registry: await openEmbeddedRegistry(paths.hive, SILENT) };
}

for (const moment of ['arming', 'reading'] as const) {
  test(`[LIFE-135] [HOST-45] a change around ${moment} at the start is not lost`, async (t) => {
    const { registry } = await openHive(t);
    const meddle = () => registry.setValue(EVENTD_KEY, 'QueryTimeoutMs', dwordData(5000));
    if (moment === 'arming') await meddle();
    const configuration = await Configuration.load(meddled(registry, moment, meddle), SILENT);
    t.after(() => configuration.close());
    let told = 0;
    configuration.changed$.subscribe(() => told++);
    assert.equal(told, moment === 'reading' ? 1 : 0);
    if (told > 0) await configuration.reload();
    assert.equal(configuration.settings.QueryTimeoutMs, 5000);
    await registry.setValue(EVENTD_KEY, 'QueryTimeoutMs', dwordData(6000));
    assert.equal(told, moment === 'reading' ? 2 : 1, 'the watch is still awake');
  });
}

test('[CFG-64] [HOST-44] [FAIL-27] the watch tells of descriptors too, and an overflow means to read everything', async (t) => {
  const { registry, text, replace } = await openHive(t);
  const configuration = await Configuration.load(registry, SILENT);
  t.after(() => configuration.close());
  let told = 0;
  configuration.changed$.subscribe(() => told++);
  await registry.setValue(`${EVENTD_KEY}\\Security\\Logs`, 'loregd', dwordData(1));
  assert.equal(told, 1);
  assert.deepEqual(await configuration.reload(), [], 'no setting changed');

  replace('unreadable');
  await assert.rejects(registry.refresh());
  assert.deepEqual(await configuration.reload(), [], 'what is in force stays');
  replace(text.replace('[Machine\\System\\eventd]\n', '$&"QueryTimeoutMs"=dword:00001388\n'));
  await registry.refresh();
  assert.equal(told, 2, 'the overflow is told once');
  assert.deepEqual(await configuration.reload(), [{ key: 'QueryTimeoutMs', old: 30_000, new: 5000 }]);
});

test('[HOST-47] [ACL-48] [FAIL-26] descriptors are read when the registry is back, whether anybody asks or not', async (t) => {
  const { registry, text, replace } = await openHive(t);
  const configuration = await Configuration.load(registry, SILENT);
  t.after(() => configuration.close());
  configuration.changed$.subscribe(() => undefined);
  replace('unreadable');
  await assert.rejects(registry.refresh());
  const logs = () => configuration.patterns.view('logs').governing('sshd').descriptor;
  assert.equal(logs(), null, 'nobody has asked');
  replace(text);
  await registry.refresh();
  await eventually('the descriptors', () => logs() !== null);
});

test('[HOST-43] [HOST-47] a reading that fails for a moment is made again, ever more rarely', async (t) => {
  const { registry } = await openHive(t);
  const configuration = await Configuration.load(registry, SILENT);
  t.after(() => configuration.close());
  let told = 0;
  configuration.changed$.subscribe(() => told++);
  told = 0;
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const fail = async (code: 'EAGAIN' | 'ENOENT') => {
    t.mock.method(registry, 'readValues', () => Promise.reject(Object.assign(new Error(code), { code })), {
      times: 1,
    });
    await configuration.reload();
  };
  for (const pause of [250, 500]) {
    await fail('EAGAIN');
    t.mock.timers.tick(pause - 1);
    assert.equal(told, 0);
    t.mock.timers.tick(1);
    assert.equal(told, 1);
    told = 0;
  }
  await fail('EAGAIN');
  await configuration.reload();
  await fail('ENOENT');
  t.mock.timers.tick(60_000);
  assert.equal(told, 0, 'it has been read, and a key that is back is told of');
});

test('[CFG-5] [CFG-71] [FAIL-25] what waits for a start, and why nothing is read, is said once as long as it holds', async (t) => {
  const { registry, text, replace } = await openHive(t);
  const said: string[] = [];
  const say = (line: string) => void said.push(line);
  const configuration = await Configuration.load(registry, { ...SILENT, info: say, warn: say });
  t.after(() => configuration.close());
  const reload = async () => {
    await configuration.reload();
    return said.splice(0);
  };
  const deferred = ['StorageShards changed; it takes effect at the next start'];
  await registry.setValue(EVENTD_KEY, 'StorageShards', dwordData(9));
  assert.deepEqual([await reload(), await reload()], [deferred, []]);
  await registry.setValue(EVENTD_KEY, 'StorageShards', dwordData(configuration.settings.StorageShards));
  assert.deepEqual(await reload(), []);
  await registry.setValue(EVENTD_KEY, 'StorageShards', dwordData(9));
  assert.deepEqual(await reload(), deferred);
  for (let outage = 0; outage < 2; outage++) {
    replace('unreadable');
    const [why, ...others] = await reload();
    assert.match(why ?? '', /^configuration kept: /);
    assert.deepEqual([others, await reload()], [[], []]);
    replace(text);
    await reload();
  }
});

test('[HOST-46] when the key goes its values stay, and when it is back it is watched again', async (t) => {
  const { registry, text, replace } = await openHive(t);
  const configuration = await Configuration.load(registry, SILENT);
  t.after(() => configuration.close());
  let told = 0;
  configuration.changed$.subscribe(() => told++);
  const before = configuration.settings;
  replace(text.replaceAll('[Machine\\System\\eventd', '[Machine\\System\\elsewhere'));
  await registry.refresh();
  assert.equal(told, 1);
  assert.deepEqual(await configuration.reload(), []);
  assert.equal(configuration.settings, before);

  replace(text.replace('[Machine\\System\\eventd]\n', '$&"QueryTimeoutMs"=dword:00001388\n'));
  await registry.refresh();
  await eventually('the key is watched again', () => told === 2);
  assert.deepEqual(await configuration.reload(), [{ key: 'QueryTimeoutMs', old: 30_000, new: 5000 }]);
  await registry.setValue(EVENTD_KEY, 'QueryTimeoutMs', dwordData(6000));
  assert.equal(told, 3);
});

/** The literal a one-condition query compares with. */
function literalOf(text: string): unknown {
  const query = parseQuery(text);
  assert.ok('where' in query && query.where?.kind === 'compare', text);
  const { value } = query.where;
  return 'value' in value ? value.value : null;
}

test('[CFG-87] origin classes and metric types have their numbers', () => {
  const origins = { userspace: 0n, kmes: 1n, kacs: 2n, lcs: 3n };
  for (const [name, number] of Object.entries(origins)) {
    assert.equal(literalOf(`EVENTS WHERE origin_class == ${name}`), number, name);
  }
  const metrics = { counter: 0n, gauge: 1n, histogram: 2n };
  for (const [name, number] of Object.entries(metrics)) {
    assert.equal(literalOf(`METRIC cpu WHERE type == ${name}`), number, name);
  }
});

test('[CFG-85] the known fields of each mode have their types, and LOGS has no others', () => {
  // Only a known GUID field reads braces as a GUID, only a known time field a date, only a known text no number.
  const guid = '{aaaaaaaa-0000-4000-8000-00000000000a}';
  const fitting: Record<string, Record<string, string>> = {
    EVENTS: {
      timestamp: '2026-01-02',
      cpu_id: '1',
      sequence: '1',
      origin_class: '1',
      event_type: '"a.b"',
      effective_token_guid: `"${guid}"`,
      true_token_guid: `"${guid}"`,
      process_guid: `"${guid}"`,
      boot_id: `"${guid}"`,
    },
    LOGS: {
      timestamp: '2026-01-02',
      origin: '"loregd"',
      is_error: 'true',
      message: '"text"',
      boot_id: `"${guid}"`,
    },
    'METRIC cpu': { timestamp: '2026-01-02', name: '"cpu"', type: '1', value: '1.5' },
  };
  for (const [mode, fields] of Object.entries(fitting)) {
    for (const [field, literal] of Object.entries(fields)) {
      assert.doesNotThrow(() => parseQuery(`${mode} WHERE ${field} == ${literal}`), `${mode} ${field}`);
      const wrong = literal.startsWith('"') ? '1.5' : '"no number"';
      assert.throws(() => parseQuery(`${mode} WHERE ${field} == ${wrong}`), QueryError, `${mode} ${field}`);
    }
  }
  assert.doesNotThrow(() => parseQuery('EVENTS WHERE anything.else == "x"'), 'payload fields');
  assert.doesNotThrow(() => parseQuery('METRIC cpu WHERE core == "0"'), 'label keys');
  assert.throws(() => parseQuery('LOGS WHERE core == "0"'), /LOGS has no field/);
});

test('[CFG-88] rollup functions have their numbers, and percentiles are none', () => {
  assert.deepEqual(ROLLUP_FUNCTIONS, ['avg', 'min', 'max', 'sum', 'rate', 'delta']);
});
