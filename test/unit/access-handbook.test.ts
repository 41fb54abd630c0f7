import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { AccessSession } from '../../src/access/accessSession.js';
import { fieldGuid } from '../../src/access/fieldGuid.js';
import type { DataType, FieldPath } from '../../src/access/fieldLists.js';
import { SecurityPatterns } from '../../src/access/securityPatterns.js';
import { formatPlainGuid } from '../../src/host/guid.js';
import { tokenFromCredentials } from '../../src/host/peerIdentity.js';
import { runRegistryCommand } from '../../src/registry/edit.js';
import { openEmbeddedRegistry } from '../../src/registry/embedded.js';
import { SECURITY_DEFAULTS } from '../../src/registry/securityDefaults.js';
import { CountingCaller } from '../fixtures/access.js';

const handbook = readFileSync(new URL('../../../docs/access-control.md', import.meta.url), 'utf8');

/** `[namespace, pattern, SDDL]` of every set-sd in the handbook. */
const examples = [
  ...handbook.matchAll(/evctl registry set-sd (\w+) '?([\w.*]+)'?\s+(?:\\\n\s+)?'([^']+)'/g),
].map(([, namespace = '', pattern = '', sddl = '']) => [namespace, pattern, sddl] as const);

/** Whether a user sees an identifier under one example of the handbook, and which of its fields. */
async function under(example: number, uid: number, groups: readonly number[]) {
  const directory = mkdtempSync(join(tmpdir(), 'access-handbook-'));
  const file = join(directory, 'eventd.reg');
  writeFileSync(file, 'PEIOS-REG 1\n', { mode: 0o600 });
  for (const [namespace, sddl] of Object.entries(SECURITY_DEFAULTS)) {
    await runRegistryCommand(file, 'set-sd', [namespace, '*', sddl]);
  }
  await runRegistryCommand(file, 'set-sd', examples[example] ?? []);
  const log = { warn: (message: string) => assert.fail(message) };
  const registry = await openEmbeddedRegistry(file, log);
  try {
    const token = tokenFromCredentials({ pid: 1, uid, gid: uid, groups }, new Set());
    const session = await AccessSession.open(new CountingCaller(token), new SecurityPatterns(registry, log));
    return async (type: DataType, identifier: string, fields: readonly FieldPath[] = []) => {
      const seen = await session.visibility(type, identifier, fields);
      return seen.everything
        ? 'all'
        : seen.visible
          ? fields.map(([name = '']) => name).filter(seen.mayShow)
          : [];
    };
  } finally {
    await registry.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

test('[ACL-91] [ACL-92] [ACL-94] every set-sd of the handbook is taken, and there are as many as it shows', () => {
  assert.equal(examples.length, handbook.split('evctl registry set-sd').length - 1);
  assert.equal(examples.length, 7);
});

test('[ACL-7] [ACL-13] the examples of the handbook do what it says of them', async () => {
  const member = await under(0, 1000, [2000]);
  assert.equal(await member('events', 'kacs.access_denied'), 'all');
  assert.deepEqual(await member('events', 'access-audit'), []);
  assert.deepEqual(await (await under(0, 1000, []))('events', 'kacs.access_denied'), []);

  const user = await under(1, 1000, []);
  assert.deepEqual(await user('logs', 'sshd'), []);
  assert.equal(await user('logs', 'cron'), 'all');
  assert.equal(await (await under(1, 0, []))('logs', 'sshd'), 'all');

  assert.deepEqual(await (await under(2, 1001, []))('metrics', 'cpu'), []);
  assert.equal(await (await under(2, 1000, []))('metrics', 'cpu'), 'all');
});

test('[ACL-21] [ACL-54] the examples of single fields and conditions do what the handbook says', async () => {
  const fields = ['timestamp', 'event_type', 'cpu_id', 'target_sid', 'reason'].map((name) => [name]);
  const user = await under(3, 1000, []);
  assert.deepEqual(await user('events', 'kacs.access_denied', fields), [
    'timestamp',
    'event_type',
    'cpu_id',
    'reason',
  ]);
  const root = await under(3, 0, []);
  assert.deepEqual((await root('events', 'kacs.access_denied', fields)).length, fields.length);
  const team = await under(4, 1000, [2000]);
  assert.deepEqual(await team('events', 'kacs.logon', fields), ['timestamp', 'event_type', 'cpu_id']);
  assert.deepEqual(await (await under(5, 1000, [2000]))('logs', 'payroll'), []);
  assert.equal(await (await under(5, 1000, [2000, 3000]))('logs', 'payroll'), 'all');
});

test('[ACL-17] [ACL-18] the GUIDs the handbook gives are those of the fields', () => {
  const computed = ['target_sid', 'timestamp', 'event_type', 'cpu_id'].map((name) =>
    formatPlainGuid(fieldGuid(name)),
  );
  const namespace = 'e7d3a1b0-5c2f-4e8a-9b1d-0a6f3c8e2d4b';
  const given = new Set(handbook.match(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g));
  assert.deepEqual([...given].sort(), [namespace, ...computed].sort());
});
