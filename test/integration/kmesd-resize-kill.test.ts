/**
 * kmesd killed while it replaces its rings by larger or smaller ones: the next kmesd clears up what is
 * half made, brings all rings to one size, and hands out no number twice; an eventd that runs through it
 * all stores what was acknowledged, once.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { decode, encode } from '@msgpack/msgpack';
import { parseGuid } from '../../src/host/guid.js';
import { EmitClient } from '../../src/kmesd/emitClient.js';
import { native } from '../../src/native/addon.js';
import { accountFor, faultsOf } from '../fixtures/accounting.js';
import { BOOT_A, EventdWorld, eventually } from '../fixtures/eventd.js';
import { type KmesdRun, startKmesd } from '../fixtures/kmesd.js';
import { programPath } from '../fixtures/runProgram.js';

const SMALL = 1 << 20;
const LARGE = 1 << 26;
const KILLS = 10;
const RINGS = 2;
const ACKNOWLEDGED_PER_ROUND = 200;
const REPLACEMENT_MS = 5000;

const options = (directory: string, capacity: number) => [
  ...['--kmes', directory],
  ...['--no-kmsg', '--no-process'],
  ...['--cpus', String(RINGS)],
  ...['--capacity', String(capacity)],
];

function begin(directory: string): Promise<KmesdRun> {
  const [, , ...args] = options(directory, SMALL);
  return startKmesd(directory, { boot: BOOT_A, args });
}

/** Resolves when the first file of a replacement ring appears, or after `ms`. */
async function replacementBegun(directory: string, ms: number): Promise<void> {
  const watcher = watch(directory);
  try {
    await Promise.race([
      new Promise<void>((resolve) => {
        watcher.on('change', (_, name) => {
          if (String(name).endsWith('.new')) resolve();
        });
      }),
      pause(ms, undefined, { ref: false }),
    ]);
  } finally {
    watcher.close();
  }
}

const ringStatus = (directory: string, cpu: number) => {
  const producer = native.producerOpen(join(directory, `cpu-000${cpu}.ring`));
  try {
    return native.producerStatus(producer);
  } finally {
    native.producerClose(producer);
  }
};

test('[KMES-33] [KMES-102] [KMES-144] [KMES-147] [HOST-75] [ING-17] kmesd killed in the middle of replacing its rings, ten times: nothing left behind, nothing acknowledged lost, nothing twice', async (t) => {
  const world = EventdWorld.for(t, { cpus: 0 });
  const directory = world.paths.kmes;
  let kmesd = await begin(directory);
  t.after(() => kmesd.end('SIGKILL'));
  const eventd = await world.start();
  const acknowledged: number[] = [];
  let next = 0;
  let halfMade = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    // A client per ring: kmesd assigns them in turn.
    const clients = await Promise.all(Array.from({ length: RINGS }, () => EmitClient.connect(kmesd.socket)));
    for (let i = 0; i < ACKNOWLEDGED_PER_ROUND; i++) {
      const number = next++;
      await clients[i % RINGS]?.emit('test.kept', encode({ number }));
      acknowledged.push(number);
    }
    for (const client of clients) client.close();
    assert.equal(await kmesd.end('SIGKILL'), 'SIGKILL');

    // The next one is asked for larger rings, and killed as soon as it begins to make them.
    const begun = replacementBegun(directory, REPLACEMENT_MS);
    const resizing = spawn(process.execPath, [programPath('kmesd'), ...options(directory, LARGE)], {
      stdio: 'ignore',
      env: { PATH: process.env.PATH, PEIOS_BOOT_ID: BOOT_A },
    });
    const ended = once(resizing, 'exit');
    await begun;
    // Now and then a little later: at the second ring, or behind a rename.
    if (kill % 3 === 2) await pause(kill);
    resizing.kill('SIGKILL');
    assert.deepEqual(await ended, [null, 'SIGKILL']);
    halfMade += readdirSync(directory).filter((name) => name.endsWith('.new')).length;
    if (kill === 0) writeFileSync(join(directory, 'boot-id.new'), 'half');
    const before = Array.from({ length: RINGS }, (_, cpu) => ringStatus(directory, cpu).sequence);

    kmesd = await begin(directory);
    assert.deepEqual(
      readdirSync(directory).sort(),
      ['boot-id', 'cpu-0000.ring', 'cpu-0001.ring', 'emit.sock', 'kmesd.lock'],
      'nothing half made is left',
    );
    for (const [cpu, sequence] of before.entries()) {
      const status = ringStatus(directory, cpu);
      assert.equal(status.capacity, SMALL, `ring ${cpu} has the configured size`);
      assert.ok(status.sequence >= sequence, 'numbers go on');
    }
  }
  t.diagnostic(`${halfMade} replacement rings were found half made`);
  assert.ok(halfMade > 0, 'a kill fell into a replacement');

  const last = Array.from({ length: RINGS }, (_, cpu) => ringStatus(directory, cpu).sequence);
  for (const [cpu, sequence] of last.entries()) if (sequence > 0n) await world.stored(cpu, sequence);
  await eventually(
    'the newest events stored',
    () => world.sequences(0).length + world.sequences(1).length >= next,
  );
  assert.equal((await eventd.end()).code, 0);
  const accounts = accountFor(world.events, parseGuid(BOOT_A), last.map(Number));
  assert.deepEqual(faultsOf(accounts), []);
  const stored = world
    .shardFiles()
    .flatMap((shard) => world.rows(shard, "event_type = 'test.kept'"))
    .map(({ payload }) => (decode(payload ?? new Uint8Array()) as { number: number }).number);
  assert.deepEqual(
    stored.sort((a, b) => a - b),
    acknowledged,
    'what was acknowledged is stored, once',
  );
});
