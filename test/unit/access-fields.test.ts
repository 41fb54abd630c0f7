import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AccessSession } from '../../src/access/accessSession.js';
import { fieldGuid } from '../../src/access/fieldGuid.js';
import {
  FIXED_FIELDS,
  type FieldPath,
  fieldLists,
  fieldNames,
  ROOT_GUIDS,
} from '../../src/access/fieldLists.js';
import { treeOf } from '../../src/access/objectTree.js';
import { EVENTD_MAPPING, EVENTD_READ, mapGenerics } from '../../src/access/rights.js';
import { formatPlainGuid } from '../../src/host/guid.js';
import { CountingCaller, FakeSecurity, patternsOf, userToken } from '../fixtures/access.js';

test('[ACL-17] [ACL-18] [CFG-82] [CFG-83] field GUIDs are computed from the name, case and all', () => {
  const known = {
    timestamp: '341d2267-b9db-536b-b36c-94ab6cd47e4c',
    event_type: '579da7cc-ba27-5d0a-898c-79e41326a9e2',
    cpu_id: '890b5e13-84bd-57f3-ba27-edc3e9506c00',
    origin: '1f638b88-4da0-5dd1-ace6-05204455e880',
    value: '2a6c9897-a530-58d7-a142-68cb9b3888ad',
    granted_access: '319b6551-e83f-5f4a-a57c-afe0dfab29e9',
    target_sid: 'c0c10b8c-6a5d-52b8-8380-6f5cfd30857f',
    'source.name': '2602646b-5587-59b4-af6e-77009f3ebc3d',
    core: '2afad8ac-b2f5-523c-886c-7ac72fa4f24b',
  };
  for (const [name, guid] of Object.entries(known)) assert.equal(formatPlainGuid(fieldGuid(name)), guid);
  assert.notDeepEqual(fieldGuid('Timestamp'), fieldGuid('timestamp'));
});

test('[ACL-20] [CFG-84] lists carry mixed-endian GUIDs', () => {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  assert.equal(hex(fieldGuid('timestamp')), '67221d34dbb96b53b36c94ab6cd47e4c');
  assert.equal(hex(ROOT_GUIDS.events), 'd4c3b2a1010000408000000000000001');
  assert.equal(hex(ROOT_GUIDS.logs), 'd4c3b2a1010000408000000000000002');
  assert.equal(hex(ROOT_GUIDS.metrics), 'd4c3b2a1010000408000000000000003');
});

const shape = (type: 'events' | 'logs' | 'metrics', present: readonly FieldPath[]) => {
  const [list, ...more] = fieldLists(type, fieldNames(type, present));
  assert.equal(more.length, 0);
  return (list?.names ?? []).map((name, index) => `${list?.nodes[index]?.level} ${name}`);
};

test('[ACL-19] [ACL-24] the fixed fields are always there, at level 1, and payload fields beside them', () => {
  assert.deepEqual(shape('logs', []), [
    '0 ',
    '1 boot_id',
    '1 is_error',
    '1 message',
    '1 origin',
    '1 timestamp',
  ]);
  assert.deepEqual(shape('metrics', [['core']]), [
    '0 ',
    '1 core',
    '1 name',
    '1 timestamp',
    '1 type',
    '1 value',
  ]);
  const events = shape('events', [['target_sid']]);
  assert.equal(events.length, 1 + 9 + 1);
  for (const name of [...FIXED_FIELDS.events, 'target_sid']) assert.ok(events.includes(`1 ${name}`), name);
  assert.ok(!events.some((line) => line.endsWith(' payload')));
  assert.ok(['boot_id', 'sequence', 'true_token_guid'].every((name) => FIXED_FIELDS.events.includes(name)));
});

test('[ACL-22] equal names are one node: a payload key like a column, a dotted key like a member', () => {
  assert.deepEqual(shape('events', [['timestamp']]), shape('events', []));
  assert.deepEqual(shape('metrics', [['name'], ['name']]), shape('metrics', []));
  for (const present of [
    [['a.b'], ['a', 'b']],
    [['a', 'b'], ['a.b']],
  ]) {
    const lines = shape('events', present).filter((line) => /\ba/.test(line));
    assert.deepEqual(lines, ['1 a', '2 a.b']);
  }
  // A label is never a member of another.
  const labels = shape('metrics', [['a'], ['a.b']]).filter((line) => /\ba/.test(line));
  assert.deepEqual(labels, ['1 a', '1 a.b']);
});

test('[ACL-23] members of maps stand one level below them, named by their whole path', () => {
  const present = [['source', 'name'], ['source', 'host', 'id'], ['target']];
  assert.deepEqual(
    shape('events', present).filter((line) => /source|target/.test(line)),
    ['1 source', '2 source.host', '3 source.host.id', '2 source.name', '1 target'],
  );
  const orders = [present, [...present].reverse()];
  assert.equal(new Set(orders.map((paths) => JSON.stringify(fieldNames('events', paths)))).size, 1);
});

test('[ACL-25] more than 1024 nodes are split into lists that each repeat the root and the parents', () => {
  const flat = Array.from({ length: 3000 }, (_, index) => [`f${index}`]);
  const lists = fieldLists('events', fieldNames('events', flat));
  assert.equal(lists.length, 3);
  assert.equal(new Set(lists.flatMap(({ names }) => names)).size, 1 + 9 + 3000);
  for (const { nodes, names } of lists) {
    assert.ok(nodes.length <= 1024 && names[0] === '' && treeOf(nodes) !== null);
  }
  const deep = fieldLists(
    'events',
    fieldNames(
      'events',
      Array.from({ length: 2000 }, (_, index) => ['m', 'n', `f${index}`]),
    ),
  );
  assert.equal(deep.length, 2);
  for (const { names, nodes } of deep)
    assert.ok(names.includes('m') && names.includes('m.n') && treeOf(nodes));
});

async function visibilityOf(sddl: string, present: readonly FieldPath[]) {
  const security = new FakeSecurity();
  security.set('Events\\*', sddl);
  const session = await AccessSession.open(new CountingCaller(userToken()), await patternsOf(security));
  return session.visibility('events', 'x', present);
}

test('[ACL-25] a node that is in several lists is granted only if each of them grants it', async () => {
  const present = Array.from({ length: 2000 }, (_, index) => ['m', `f${index}`]);
  const denied = formatPlainGuid(fieldGuid('m.f1999'));
  const seen = await visibilityOf(`O:SYG:SYD:(OD;;0x1;${denied};;AU)(A;;0x1;;;AU)`, present);
  assert.deepEqual(
    ['m.f0', 'm.f1998', 'm.f1999', 'm', 'timestamp'].map((name) => seen.mayShow(name)),
    [true, true, false, false, true],
  );
});

test('[ACL-23] grants and denials on a map flow down to its members', async () => {
  const source = formatPlainGuid(fieldGuid('source'));
  const present = [['source', 'name'], ['source', 'host', 'id'], ['other']];
  const names = ['source', 'source.name', 'source.host.id', 'other'];
  const granted = await visibilityOf(`O:SYG:SYD:(OA;;0x1;${source};;AU)`, present);
  assert.deepEqual(names.map(granted.mayShow), [true, true, true, false]);
  const denied = await visibilityOf(`O:SYG:SYD:(OD;;0x1;${source};;AU)(A;;0x1;;;AU)`, present);
  assert.deepEqual(names.map(denied.mayShow), [false, false, false, true]);
});

test('[ACL-15] [ACL-16] [CFG-80] [CFG-81] the generic mapping', () => {
  assert.equal(EVENTD_READ, 0x1);
  assert.equal(mapGenerics(0x80000000, EVENTD_MAPPING), 0x00020001);
  assert.equal(mapGenerics(0x40000000, EVENTD_MAPPING), 0x00020002);
  assert.equal(mapGenerics(0x20000000, EVENTD_MAPPING), 0x00020001);
  assert.equal(mapGenerics(0x10000000, EVENTD_MAPPING), 0x000f0003);
  assert.equal(mapGenerics(0xf1000004, EVENTD_MAPPING), 0x010f0007);
});
