import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { sddlToSecurityDescriptor } from '../../src/access/sddl.js';
import {
  applyChange,
  freshProblems,
  readServiceSettings,
  readSettings,
} from '../../src/registry/configuration.js';
import { Hive } from '../../src/registry/hive.js';
import { EVENTD_KEY, foldName, SERVICE_KEY } from '../../src/registry/names.js';
import { SECURITY_DEFAULTS } from '../../src/registry/securityDefaults.js';
import { checkSetting, encodeSetting } from '../../src/registry/settingCheck.js';
import { SETTING_NAMES, type Settings, settingOf } from '../../src/registry/settings.js';
import {
  dwordData,
  multiSzData,
  qwordData,
  REG,
  type RegistryData,
  type RegistryValue,
  szData,
} from '../../src/registry/value.js';

const PATHS: Record<string, RegistryData> = {
  EventStorePath: szData('/var/lib/eventd/events'),
  LogStorePath: szData('/var/lib/eventd/logs.db'),
  MetricStorePath: szData('/var/lib/eventd/metrics.db'),
  QuerySocketPath: szData('/run/eventd/query.sock'),
  LogSocketPath: szData('/run/eventd/log.sock'),
  MetricSocketPath: szData('/run/eventd/metric.sock'),
};

function values(extra: Record<string, RegistryData | null> = {}): RegistryValue[] {
  return Object.entries({ ...PATHS, ...extra }).flatMap(([name, data]) =>
    data === null ? [] : [{ name, ...data }],
  );
}

function start(extra: Record<string, RegistryData | null> = {}): Settings {
  const { settings, problems } = readSettings(values(extra));
  assert.deepEqual(problems, []);
  return settings ?? assert.fail('no settings');
}

/** The table of the requirements, written down a second time on purpose. */
const OPTIONAL: [title: string, name: string, standard: number, min: number, max: number][] = [
  ['[CFG-20]', 'StorageShards', 0, 0, 256],
  ['[CFG-21]', 'MaxBatchSize', 10000, 100, 100000],
  ['[CFG-22]', 'MaxBatchLatencyMs', 100, 10, 5000],
  ['[CFG-23]', 'LogMaxBatchSize', 5000, 100, 100000],
  ['[CFG-24]', 'LogMaxBatchLatencyMs', 500, 10, 5000],
  ['[CFG-25]', 'MetricMaxBatchSize', 5000, 100, 100000],
  ['[CFG-26]', 'MetricMaxBatchLatencyMs', 1000, 10, 5000],
  ['[CFG-27]', 'AdaptiveIndexWindowHours', 24, 1, 168],
  ['[CFG-28]', 'AdaptiveIndexPolicyIntervalMinutes', 60, 60, 1440],
  ['[CFG-29]', 'AdaptiveIndexCreateThreshold', 100, 10, 10000],
  ['[CFG-30]', 'AdaptiveIndexDropThreshold', 10, 1, 1000],
  ['[CFG-31]', 'SheddingWindowSeconds', 30, 10, 300],
  ['[CFG-32]', 'SheddingBatchPercent', 75, 50, 100],
  ['[CFG-33]', 'EmergencySheddingBufferPercent', 75, 50, 95],
  ['[CFG-34]', 'AdaptiveRollupWindowHours', 48, 1, 168],
  ['[CFG-35]', 'AdaptiveRollupCreateThreshold', 50, 10, 10000],
  ['[CFG-36]', 'AdaptiveRollupDropThreshold', 5, 1, 1000],
  ['[CFG-37]', 'MetricSeriesCacheSize', 50000, 1000, 1000000],
  ['[CFG-38]', 'EventRetentionDays', 30, 1, 3650],
  ['[CFG-40]', 'LogRetentionDays', 14, 1, 3650],
  ['[CFG-42]', 'MetricRetentionDays', 90, 1, 3650],
  ['[CFG-44]', 'RetentionCheckIntervalMinutes', 60, 1, 1440],
  ['[CFG-45]', 'QueryTimeoutMs', 30000, 1000, 300000],
  ['[CFG-46]', 'MaxConcurrentQueries', 128, 1, 4096],
  ['[CFG-47]', 'MaxStreamingQueries', 64, 1, 1024],
  ['[CFG-48]', 'MaxQueryMessageBytes', 65536, 1024, 16777216],
  ['[CFG-49]', 'CrossTypeWindowMs', 15000, 1000, 300000],
  ['[CFG-50]', 'CrossTypeMaxLookbackSeconds', 604800, 3600, 2592000],
  ['[CFG-3]', 'HealthMetricIntervalSeconds', 15, 0, 3600],
  ['[CFG-3]', 'QueryMemoryBytes', 268435456, 16777216, 2147483648],
];

for (const [title, name, standard, min, max] of OPTIONAL) {
  test(`[LIFE-102] [CFG-3] ${title} ${name}: default ${standard}, range ${min} to ${max} inclusive`, () => {
    const read = (data: RegistryData) => readSettings(values({ [name]: data }));
    const named = (settings: Settings | null) => (settings as Record<string, unknown> | null)?.[name];
    assert.equal(named(start()), standard);
    const setting = SETTING_NAMES.map((key) => [key, settingOf(key)] as const).find(
      ([key]) => key === name,
    )?.[1];
    assert.ok(setting?.type === 'dword');
    for (const inside of [min, max])
      assert.ok(checkSetting(setting, dwordData(inside)).valid, String(inside));
    for (const outside of [min - 1, max + 1].filter((number) => number >= 0)) {
      const { settings, problems } = read(dwordData(outside));
      assert.equal(named(settings), standard);
      assert.equal(
        problems[0]?.message,
        `${name}: found ${outside}, expected REG_DWORD from ${min} to ${max}; ${standard} stays in force`,
      );
    }
    for (const other of [qwordData(BigInt(max)), szData(String(max))]) {
      const { settings, problems } = read(other);
      assert.equal(named(settings), standard);
      assert.match(problems[0]?.message ?? '', /: found REG_(QWORD|SZ), expected REG_DWORD /);
    }
    // A pair of thresholds must stay in order (CFG-6): here only one of the two moves.
    const partner = { AdaptiveIndexDropThreshold: dwordData(9), AdaptiveRollupDropThreshold: dwordData(1) };
    const raised = name.endsWith('DropThreshold') ? standard + 1 : max;
    const change = applyChange(start(partner), values({ ...partner, [name]: dwordData(raised) }));
    assert.deepEqual(change.problems, []);
    const isLive = name !== 'StorageShards';
    assert.deepEqual(change.deferredRestart, isLive ? [] : [name]);
    assert.equal(named(change.settings), isLive ? raised : standard);
  });
}

for (const [title, name] of [
  ['[CFG-39]', 'EventRetentionMaxBytes'],
  ['[CFG-41]', 'LogRetentionMaxBytes'],
  ['[CFG-43]', 'MetricRetentionMaxBytes'],
] as const) {
  test(`${title} ${name} is a bigint over the full 64 bits, default none`, () => {
    assert.equal(start()[name], 0n);
    assert.equal(start({ [name]: qwordData(0xffff_ffff_ffff_ffffn) })[name], 0xffff_ffff_ffff_ffffn);
    const { settings, problems } = readSettings(values({ [name]: dwordData(5) }));
    assert.equal(settings?.[name], 0n);
    assert.match(problems[0]?.message ?? '', /found REG_DWORD, expected REG_QWORD/);
    const change = applyChange(start(), values({ [name]: qwordData(1n << 40n) }));
    assert.deepEqual(change.applied, [{ key: name, old: 0n, new: 1n << 40n }], 'live');
  });
}

test('[CFG-1] [CFG-2] names compare without case and unknown values are ignored', () => {
  const settings = start({ EVENTRETENTIONDAYS: dwordData(7), Surprise: szData('x'), Security: dwordData(1) });
  assert.equal(settings.EventRetentionDays, 7);
});

test('[CFG-10] [CFG-11] [CFG-12] [CFG-13] [CFG-14] [CFG-15] [CFG-16] [LIFE-101] each required path must be there', () => {
  const settings = start();
  for (const name of Object.keys(PATHS)) {
    assert.ok((settings as Record<string, unknown>)[name]);
    const { settings: none, problems } = readSettings(values({ [name]: null }));
    assert.equal(none, null);
    assert.deepEqual(
      problems.map(({ key, found, fatal }) => ({ key, found, fatal })),
      [{ key: name, found: 'nothing', fatal: true }],
    );
  }
});

test('[CFG-17] [LIFE-138] paths are absolute, free of NUL, short enough for a socket and different', () => {
  const bad: [string, RegistryData, RegExp][] = [
    ['EventStorePath', szData(''), /found an empty path/],
    ['EventStorePath', szData('var/lib'), /found the relative path "var\/lib"/],
    ['LogStorePath', szData('/a\0b'), /NUL inside/],
    ['LogStorePath', { type: REG.EXPAND_SZ, data: szData('/a').data }, /found REG_EXPAND_SZ/],
    [
      'QuerySocketPath',
      szData(`/${'x'.repeat(107)}`),
      /found a path of 108 bytes, expected .* at most 107 bytes/,
    ],
    ['LogSocketPath', szData('/run/eventd/query.sock'), /LogSocketPath: found the path of QuerySocketPath/],
    [
      'MetricSocketPath',
      szData('/run/eventd//./log.sock'),
      /MetricSocketPath: found the path of LogSocketPath/,
    ],
  ];
  for (const [name, data, reason] of bad) {
    const { settings, problems } = readSettings(values({ [name]: data }));
    assert.equal(settings, null, name);
    assert.match(problems[0]?.message ?? '', reason);
  }
  assert.equal(start({ QuerySocketPath: szData(`/${'x'.repeat(106)}`) }).QuerySocketPath.length, 107);
  const withoutNul = { type: REG.SZ, data: Uint8Array.from(Buffer.from('/data/events')) };
  assert.equal(start({ EventStorePath: withoutNul }).EventStorePath, '/data/events');
});

test('[CFG-5] [HOST-30] a wrong length is invalid and never coerced', () => {
  const { settings, problems } = readSettings(
    values({
      EventRetentionDays: { type: REG.DWORD, data: Uint8Array.of(7, 0) },
      LogRetentionDays: szData('7'),
      LogRetentionMaxBytes: { type: REG.QWORD, data: Uint8Array.of(1, 0, 0, 0) },
    }),
  );
  assert.equal(settings?.EventRetentionDays, 30);
  assert.equal(settings?.LogRetentionDays, 14);
  assert.equal(settings?.LogRetentionMaxBytes, 0n);
  assert.deepEqual(
    problems.map(({ key, found }) => [key, found]),
    [
      ['EventRetentionDays', 'REG_DWORD of 2 bytes'],
      ['LogRetentionDays', 'REG_SZ'],
      ['LogRetentionMaxBytes', 'REG_QWORD of 4 bytes'],
    ],
  );
});

test('[CFG-6] [ROL-12] a threshold pair that is not in order falls back as a pair', () => {
  const index = readSettings(values({ AdaptiveIndexCreateThreshold: dwordData(10) }));
  assert.equal(index.settings?.AdaptiveIndexCreateThreshold, 100);
  assert.equal(index.settings?.AdaptiveIndexDropThreshold, 10);
  assert.match(
    index.problems[0]?.message ?? '',
    /found 10 with AdaptiveIndexCreateThreshold 10, expected less than/,
  );

  const current = start({
    AdaptiveRollupCreateThreshold: dwordData(40),
    AdaptiveRollupDropThreshold: dwordData(20),
  });
  const change = applyChange(
    current,
    values({ AdaptiveRollupCreateThreshold: dwordData(15), AdaptiveRollupDropThreshold: dwordData(20) }),
  );
  assert.equal(change.settings.AdaptiveRollupCreateThreshold, 40);
  assert.equal(change.settings.AdaptiveRollupDropThreshold, 20);
  assert.deepEqual(change.applied, []);
  assert.match(change.problems[0]?.message ?? '', /the pair 40 and 20 stays in force/);
});

test('[CFG-4] [LIFE-141] [LIFE-142] a change of live values is applied and told one by one', () => {
  const current = start({ EventRetentionDays: dwordData(7) });
  const change = applyChange(
    current,
    values({ QueryTimeoutMs: dwordData(5000), EventRetentionMaxBytes: qwordData(5n) }),
  );
  assert.deepEqual(change.applied, [
    { key: 'EventRetentionDays', old: 7, new: 30 },
    { key: 'EventRetentionMaxBytes', old: 0n, new: 5n },
    { key: 'QueryTimeoutMs', old: 30000, new: 5000 },
  ]);
  assert.equal(change.settings.QueryTimeoutMs, 5000);
  assert.equal(current.QueryTimeoutMs, 30000);
});

test('[CFG-5] [LIFE-143] an invalid value at runtime keeps what is in force and changes nothing', () => {
  const current = start({ EventRetentionDays: dwordData(7) });
  const change = applyChange(current, values({ EventRetentionDays: dwordData(0) }));
  assert.equal(change.settings, current);
  assert.deepEqual(change.applied, []);
  assert.equal(change.problems[0]?.message.endsWith('; 7 stays in force'), true);
  assert.equal(change.problems[0]?.fatal, false);
});

test('[CFG-71] [LIFE-141] [LIFE-143] paths and StorageShards wait for a restart', () => {
  const current = start();
  const change = applyChange(
    current,
    values({
      EventStorePath: szData('/elsewhere'),
      QuerySocketPath: null,
      StorageShards: dwordData(4),
      DebugSocketPath: szData('/run/eventd/debug.sock'),
    }),
  );
  assert.equal(change.settings, current);
  assert.deepEqual(change.deferredRestart, ['EventStorePath', 'StorageShards', 'DebugSocketPath']);
  assert.deepEqual(
    change.problems.map(({ key, fatal }) => [key, fatal]),
    [['QuerySocketPath', false]],
  );
});

test('[LIFE-143] reading equal values again applies nothing', () => {
  const extra = { EventRetentionDays: dwordData(7), AdminGroups: multiSzData(['wheel', '10']) };
  const current = start(extra);
  const change = applyChange(current, values(extra));
  assert.deepEqual([change.applied, change.deferredRestart, change.problems], [[], [], []]);
  assert.equal(change.settings, current);
});

test('[CFG-70] [CFG-73] exactly the paths and StorageShards need a restart', () => {
  const restart = SETTING_NAMES.filter((name) => !settingOf(name).live);
  assert.deepEqual(restart, [...Object.keys(PATHS), 'StorageShards', 'DebugSocketPath']);
});

test('[CFG-5] a problem is reported once until it changes or returns', () => {
  const reported = new Set<string>();
  const bad = readSettings(values({ EventRetentionDays: dwordData(0) })).problems;
  assert.equal(freshProblems(reported, bad).length, 1);
  assert.equal(freshProblems(reported, bad).length, 0);
  assert.equal(freshProblems(reported, []).length, 0);
  assert.equal(freshProblems(reported, bad).length, 1);
});

test('[HOST-67] admin groups are a list of names, none by default; the debug socket is off', () => {
  assert.deepEqual(start().AdminGroups, []);
  assert.deepEqual(start({ AdminGroups: multiSzData(['wheel', '10']) }).AdminGroups, ['wheel', '10']);
  assert.equal(start().DebugSocketPath, null);
  const { settings, problems } = readSettings(values({ DebugSocketPath: szData('/run/eventd/log.sock') }));
  assert.equal(settings?.DebugSocketPath, null);
  assert.equal(problems[0]?.key, 'DebugSocketPath');
});

test('[HOST-18] [HOST-21] [LIFE-210] stop and watchdog time come from the service key', () => {
  assert.deepEqual(readServiceSettings([]).settings, { stopTimeoutSeconds: 10, watchdogTimeoutSeconds: 0 });
  const set = readServiceSettings([
    { name: 'stoptimeout', ...dwordData(30) },
    { name: 'WatchdogTimeout', ...szData('30') },
  ]);
  assert.deepEqual(set.settings, { stopTimeoutSeconds: 30, watchdogTimeoutSeconds: 0 });
  assert.match(set.problems[0]?.message ?? '', /WatchdogTimeout: found REG_SZ/);
});

const seedFile = new URL('../../../packaging/eventd.reg', import.meta.url);

test('[HOST-23] [HOST-49] [HOST-25] [HOST-26] [CFG-60] the seed hive is valid and complete', () => {
  const seed = Hive.parse(readFileSync(seedFile), 'eventd.reg');
  assert.deepEqual(seed.warnings, []);
  const { settings, problems } = readSettings([...(seed.key(EVENTD_KEY)?.values.values() ?? [])]);
  assert.deepEqual(problems, []);
  assert.equal(settings?.QuerySocketPath, '/run/eventd/query.sock');
  for (const [namespace, sddl] of Object.entries(SECURITY_DEFAULTS)) {
    const value = seed.key(`${EVENTD_KEY}\\Security\\${namespace}`)?.values.get('*');
    assert.deepEqual(value?.data, sddlToSecurityDescriptor(sddl));
  }
  const service = seed.key(SERVICE_KEY)?.values;
  assert.deepEqual(service?.get('triggers')?.data, multiSzData(['boot']).data);
  assert.equal(readServiceSettings([...(service?.values() ?? [])]).settings.stopTimeoutSeconds, 30);
  for (const absent of [
    'Requires',
    'BindsTo',
    'ExecReload',
    'FdStoreMax',
    'ServiceSecurity',
    'HealthCheck',
  ]) {
    assert.equal(service?.has(foldName(absent)), false, absent);
  }
});

test('[CFG-2] [CFG-3] the seed hive shows every optional setting with its default, commented out', () => {
  const text = readFileSync(seedFile, 'utf8');
  const seed = Hive.parse(text.replace(/^;(?=")/gm, ''), 'eventd.reg');
  const shown = seed.key(EVENTD_KEY)?.values;
  assert.deepEqual([...(shown?.values() ?? [])].map(({ name }) => name).sort(), [...SETTING_NAMES].sort());
  for (const name of SETTING_NAMES) {
    const setting = settingOf(name);
    const value = shown?.get(foldName(name));
    assert.ok(value !== undefined && checkSetting(setting, value).valid, name);
    if (setting.type === 'path' || setting.type === 'names') continue;
    assert.deepEqual({ type: value.type, data: value.data }, encodeSetting(setting, setting.default), name);
    if (setting.type === 'dword')
      assert.ok(text.includes(`${setting.min} to ${setting.max}, default ${setting.default}`));
  }
});
