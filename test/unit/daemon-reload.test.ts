/** A SIGHUP is answered even when another reload is under way, or the daemon still starts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type ActorRefFrom, createActor, fromPromise } from 'xstate';
import { daemonMachine } from '../../machines/daemon.js';

interface Host {
  readonly actor: ActorRefFrom<typeof daemonMachine>;
  /** One entry per reload, true when announced. */
  readonly reloads: boolean[];
  /** Ends the phase or reload that is held. */
  readonly release: () => Promise<void>;
}

/** A daemon whose phases all succeed; the first phase and every reload last until released. */
function host(): Host {
  const reloads: boolean[] = [];
  let open: () => void = () => undefined;
  const hold = () =>
    new Promise<void>((resolve) => {
      open = resolve;
    });
  const done = fromPromise<void>(() => Promise.resolve());
  const machine = daemonMachine.provide({
    actors: {
      configure: fromPromise<void>(hold),
      openStores: done,
      resolveBoot: done,
      attachKmes: done,
      bindSockets: done,
      startActors: done,
      announceReady: done,
      reload: fromPromise<void, { announce: boolean }>(({ input }) => {
        reloads.push(input.announce);
        return hold();
      }),
    },
  });
  const actor = createActor(machine);
  actor.start();
  return {
    actor,
    reloads,
    release: async () => {
      open();
      await turn();
    },
  };
}

test('[HOST-20] [LIFE-230] a SIGHUP during a reload that the watch began is announced after it', async () => {
  const { actor, reloads, release } = host();
  await release();
  assert.ok(actor.getSnapshot().matches('ready'));
  actor.send({ type: 'configuration.changed' });
  actor.send({ type: 'reload.requested' });
  actor.send({ type: 'configuration.changed' });
  await release();
  assert.deepEqual(reloads, [false, true], 'one reload for all that came, and peinit hears of it');
  await release();
  assert.ok(actor.getSnapshot().matches('ready'));
  actor.send({ type: 'configuration.changed' });
  assert.deepEqual(reloads, [false, true, false], 'the next change is nobody’s request again');
});

test('[HOST-20] [LIFE-231] a SIGHUP during the start is announced once the daemon is ready', async () => {
  const { actor, reloads, release } = host();
  actor.send({ type: 'reload.requested' });
  assert.deepEqual(reloads, []);
  await release();
  assert.deepEqual(reloads, [true]);
  await release();
  assert.ok(actor.getSnapshot().matches('ready'));
});
