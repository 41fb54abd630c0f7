/** EVENTS INDEX and the counting of queries, over the socket, with a policy that only remembers. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { IndexPolicyPort } from '../../actors/query/service.js';
import { storedDescriptor } from '../../src/access/caller.js';
import { sddlToSecurityDescriptor } from '../../src/access/sddl.js';
import { CountingCaller, tokenOf, U, userToken } from '../fixtures/access.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { ask } from '../fixtures/rawQueryClient.js';

const DEFAULT = 'O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;BA)';

class Policy implements IndexPolicyPort {
  readonly counted: string[][] = [];
  readonly indexed: string[] = [];
  descriptor: string | null = DEFAULT;
  failing = false;

  used(fields: readonly string[]): void {
    this.counted.push([...fields]);
  }

  async adminDescriptor() {
    if (this.failing) throw new Error('the thread is gone');
    return this.descriptor === null ? null : storedDescriptor(sddlToSecurityDescriptor(this.descriptor));
  }

  async index(field: string): Promise<void> {
    this.indexed.push(field);
  }
}

async function serviceFor(t: TestContext, caller: ConstructorParameters<typeof CountingCaller>[0]) {
  const store = makeStore(t);
  const policy = new Policy();
  const callers: CountingCaller[] = [];
  await startService(t, store, {
    policy,
    callers: () => {
      const one = new CountingCaller(caller);
      callers.push(one);
      return one;
    },
  });
  return {
    policy,
    callers,
    index: (field: string) => ask(store.socketPath, `EVENTS INDEX ${field}`),
    ask: (text: string) => ask(store.socketPath, text),
  };
}

const DENIED = 'access denied: EVENTS INDEX is for administrators of the index policy';

test('[QL-74][IDX-44][ACL-56][ACL-58] EVENTS INDEX is for whom admin_sd grants it, and for nobody else', async (t) => {
  const user = await serviceFor(t, userToken());
  assert.equal((await user.index('target_sid')).error, DENIED);
  // Who may not is told so before anything else.
  assert.equal((await user.index('sequence')).error, DENIED);
  assert.equal((await user.index('timestamp')).error, DENIED);
  assert.deepEqual(user.policy.indexed, []);
  const request = user.callers[0]?.requests.at(-1);
  assert.equal(request?.auditContext, 'admin:index');
  assert.equal(request?.nodes, null);
  // The descriptor decides, not the read-path descriptors: an ordinary user it names may.
  user.policy.descriptor = `O:SYG:SYD:(A;;0x1;;;${U})`;
  assert.deepEqual((await user.index('target_sid')).messages, [
    { status: 'ok', records: [] },
    { status: 'end' },
  ]);
  assert.deepEqual(user.policy.indexed, ['target_sid']);
  // EVENTD_READ it is, and nothing less.
  user.policy.descriptor = `O:SYG:SYD:(A;;0x2;;;${U})`;
  assert.equal((await user.index('other')).error, DENIED);
});

test('[IDX-44][ACL-57] whatever cannot be decided is denied', async (t) => {
  const admin = await serviceFor(t, tokenOf('SY', ['BA']));
  assert.deepEqual((await admin.index('a.b')).records, []);
  assert.deepEqual(admin.policy.indexed, ['a.b']);
  admin.policy.descriptor = null;
  assert.equal((await admin.index('c')).error, DENIED, 'no descriptor');
  admin.policy.failing = true;
  assert.equal((await admin.index('c')).error, DENIED, 'nobody to ask');
  assert.deepEqual(admin.policy.indexed, ['a.b']);
});

test('[QL-75][IDX-30] timestamp succeeds without effect, sequence is refused, and nothing may accompany INDEX', async (t) => {
  const admin = await serviceFor(t, tokenOf('SY', ['BA']));
  assert.deepEqual((await admin.index('timestamp')).messages.at(-1), { status: 'end' });
  assert.equal((await admin.index('sequence')).error, 'unsupported: sequence is not indexable');
  for (const text of ['EVENTS INDEX a WHERE b == 1', 'EVENTS INDEX a STREAM', 'EVENTS x INDEX a'])
    assert.match((await admin.ask(text)).error ?? '', /^parse error:/, text);
  assert.deepEqual(admin.policy.indexed, []);
});

test('[IDX-3][IDX-4][QX-40][QX-41][QX-42] each query is counted once, by the fields it searches, when nothing can refuse it any more', async (t) => {
  const { policy, ask: run } = await serviceFor(t, tokenOf('SY', ['BA']));
  const counts = async (text: string) => {
    policy.counted.length = 0;
    await run(text);
    return policy.counted;
  };
  assert.deepEqual(
    await counts('EVENTS a.* WHERE x.y == 1 AND (x.y == 2 OR cpu_id == 1) AND timestamp > 0'),
    [['event_type', 'x.y', 'cpu_id']],
  );
  assert.deepEqual(await counts('EVENTS WHERE sequence == 1 SELECT s SORT z'), [[]]);
  assert.deepEqual(await counts('LOGS SINCE 1h ago WHERE EVENT a EXISTS'), [['event_type']]);
  assert.deepEqual(await counts('LOGS WHERE origin == "a"'), [[]]);
  assert.deepEqual(await counts('EVENTS WHERE'), [], 'class P');
  assert.deepEqual(await counts('EVENTS SINCE 300d ago WHERE a == 1 AND LOG b EXISTS'), [], 'class V');
  assert.deepEqual(await counts('EVENTS INDEX a'), [], 'no search');
});
