/** The thread that several actors share, and how the daemon keeps each of them alive. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { MessageChannel, type Worker } from 'node:worker_threads';
import type { AnyActorRef } from 'xstate';
import { Maintained, type MaintainedOptions } from '../../actors/daemon/maintained.js';
import { MaintenanceThread } from '../../actors/maintenance/maintenanceThread.js';
import type { TenantGone } from '../../actors/maintenance/tenant.js';
import { tenantOf } from '../../actors/maintenance/tenantThread.js';
import { Subject } from '../../actors/rx.js';
import type { ActorThread } from '../../actors/thread.js';
import { heard } from '../../actors/threadTalk.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { eventually } from '../fixtures/eventd.js';

/** What the guests of the thread have done, as the one that answers sees it. */
interface Sight {
  readonly importing: boolean;
  readonly imported: boolean;
  readonly started: boolean;
}

const moduleOf = (source: string) => new URL(`data:text/javascript,${encodeURIComponent(source)}`);

/**
 * Answers every message, lets the import below go on, and closes its port as a dying thread does: before the
 * thread is gone, and without a word of it.
 */
const ANSWERING = moduleOf(`export function tenant(data, port) {
  port.on('message', (message) => {
    if (message === 'go') globalThis.go();
    if (message === 'fall silent') {
      port.removeAllListeners('close');
      return port.close();
    }
    const { importing = false, imported = false, started = false } = globalThis;
    port.postMessage({ importing, imported, started });
  });
}`);

const SLOW_TO_IMPORT = moduleOf(`globalThis.importing = true;
await new Promise((resolve) => { globalThis.go = resolve; });
globalThis.imported = true;
export function tenant() { globalThis.started = true; }`);

type Guest = ActorThread<Sight, string>;

function answering(t: TestContext, maintenance: MaintenanceThread, name: string): Guest {
  const guest = maintenance.start<Sight, string>(name, ANSWERING, {});
  t.after(() => guest.terminate());
  return guest;
}

async function ask(guest: Guest, question: string): Promise<Sight> {
  const answer = heard(guest, () => true);
  guest.send(question);
  return await answer;
}

test('[LIFE-124] an actor started while the thread of the one before still ends hears nothing of that end', async (t) => {
  const maintenance = new MaintenanceThread();
  const before = answering(t, maintenance, 'before');
  await ask(before, 'there?');
  const ending = before.terminate();
  const after = answering(t, maintenance, 'after');
  const ends: (Error | null)[] = [];
  void after.ended.then((error) => ends.push(error));
  await ending;
  await ask(after, 'there?');
  assert.deepEqual(ends, []);
});

test('[LIFE-124] who listens to an actor between the last word of its thread and its end waits for nothing', async (t) => {
  const guest = answering(t, new MaintenanceThread(), 'guest');
  await ask(guest, 'there?');
  const said = { over: false, late: false };
  void guest.ended.then(() => {
    said.over = true;
  });
  const silent = new Promise<void>((complete) => guest.messages$.subscribe({ complete }));
  guest.send('fall silent');
  await silent;
  guest.messages$.subscribe({
    complete: () => {
      said.late = true;
    },
  });
  assert.deepEqual(said, { over: false, late: true });
});

test('[LIFE-132] an actor that is ended while its module is being loaded is not started', async (t) => {
  const maintenance = new MaintenanceThread();
  const thread = once(process, 'worker') as Promise<[Worker]>;
  const keeper = answering(t, maintenance, 'keeper');
  const slow = maintenance.start('slow', SLOW_TO_IMPORT, {});
  await eventually('the import', async () => (await ask(keeper, 'there?')).importing);
  const [worker] = await thread;
  let isHeard = false;
  worker.on('message', ({ type }: TenantGone) => {
    isHeard = type === 'gone';
  });
  await slow.terminate();
  await eventually('the thread to hear of it', () => isHeard);
  await ask(keeper, 'go');
  await eventually('the module', async () => (await ask(keeper, 'there?')).imported);
  assert.equal((await ask(keeper, 'there?')).started, false);
});

test('[LIFE-132] an actor that starts after its daemon has let go of it stops by itself', async () => {
  const { port1: daemon, port2: port } = new MessageChannel();
  const heard: string[] = [];
  const reports$ = new Subject<never>();
  const actor = { subscribe: () => undefined } as unknown as AnyActorRef;
  const stopped = new Promise<void>((resolve) => {
    const tenant = tenantOf<null, { readonly type: string }, never>('late', (_, commands$) => {
      commands$.subscribe(({ type }) => {
        heard.push(type);
        resolve();
      });
      return { actor, reports$ };
    });
    daemon.close();
    tenant(null, port);
  });
  await stopped;
  reports$.complete();
  assert.deepEqual(heard, ['stop']);
});

class Kept extends Maintained<{ readonly type: 'ready' }, { readonly type: 'nothing' }, never> {
  constructor(outside: MaintainedOptions) {
    super(outside, 'kept', ANSWERING);
  }

  protected override data(): object {
    return {};
  }

  protected override heard(): void {}
}

/** An actor in threads that die when the test says so, and get `ready` unless it does not want them to. */
function keep(isReady: () => boolean = () => true) {
  const deaths: ((error: Error) => void)[] = [];
  const start = (name: string) => {
    const messages$ = new Subject<{ readonly type: 'ready' }>();
    const ended = new Promise<Error>((resolve) => {
      deaths.push((error) => {
        messages$.complete();
        resolve(error);
      });
    });
    if (isReady()) queueMicrotask(() => messages$.next({ type: 'ready' }));
    return {
      name,
      messages$,
      ended,
      send: () => undefined,
      close: () => undefined,
      terminate: async () => {},
    };
  };
  const said: string[] = [];
  const outside = {
    maintenance: { start } as unknown as MaintenanceThread,
    log: { error: (text: string) => said.push(text) } as unknown as ProcessLog,
    onInspection: () => undefined,
    onThreadEnded: () => undefined,
  };
  const kept = new Kept(outside);
  const die = async () => {
    deaths.at(-1)?.(new Error('it died'));
    await new Promise(setImmediate);
  };
  return { kept, die, said, starts: () => deaths.length };
}

test('[LIFE-124] [FAIL-15] an actor whose thread died is started again once, 10 s later, whatever recovers meanwhile', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { kept, die, said, starts } = keep();
  await kept.start();
  for (let life = 1; life <= 2; life++) {
    await die();
    assert.deepEqual(said.splice(0), ['thread kept ended and is started again: it died']);
    t.mock.timers.tick(9_999);
    await kept.start();
    assert.equal(starts(), life, 'not before the pause is over');
    t.mock.timers.tick(1);
    assert.equal(starts(), life + 1);
    t.mock.timers.tick(60_000);
    await kept.start();
    assert.equal(starts(), life + 1, 'once');
  }
});

test('[LIFE-124] [LIFE-132] an actor that died before it worked can be started again at once, and is there once', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let isReady = false;
  const { kept, die, starts } = keep(() => isReady);
  for (let life = 1; life <= 2; life++) {
    const failed = assert.rejects(kept.start(), /it died/);
    assert.equal(starts(), life);
    await die();
    await failed;
  }
  isReady = true;
  await kept.start();
  t.mock.timers.tick(60_000);
  assert.equal(starts(), 3, 'not by the clock as well');

  // By the clock first: the next call waits for that one.
  const other = keep(() => isReady);
  isReady = false;
  const failed = assert.rejects(other.kept.start(), /it died/);
  await other.die();
  await failed;
  isReady = true;
  t.mock.timers.tick(10_000);
  await other.kept.start();
  assert.equal(other.starts(), 2);
});

test('[LIFE-204] [LIFE-132] an actor that is stopped in the pause after its death stays dead', async (t) => {
  for (const end of ['stop', 'release'] as const) {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const { kept, die, starts } = keep();
    await kept.start();
    await die();
    await kept[end](1000);
    t.mock.timers.tick(60_000);
    await kept.start();
    assert.equal(starts(), 1, end);
    t.mock.timers.reset();
  }
});
