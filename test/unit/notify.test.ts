import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Notifier, stopBoundMs, watchdogPingMs } from '../../src/host/notify.js';
import { native } from '../../src/native/addon.js';

function silent() {
  const warnings: string[] = [];
  return { warnings, log: { warn: (message: string) => void warnings.push(message) } };
}

function recorded(monotonic = 5_000_123n) {
  const sent: string[] = [];
  const send = (_path: string, data: Uint8Array) => void sent.push(Buffer.from(data).toString('utf8'));
  return { sent, notifier: new Notifier('/run/notify', send, silent().log, () => monotonic) };
}

test('[HOST-8] [HOST-9] [HOST-54] datagrams reach a real socket, by path and from this process', () => {
  const directory = mkdtempSync(join(tmpdir(), 'notify-'));
  const path = join(directory, 'notify.sock');
  const socket = native.notifyListen(path);
  try {
    const { warnings, log } = silent();
    const notifier = Notifier.fromEnvironment({ NOTIFY_SOCKET: path }, native.sendDatagram, log);
    notifier.ready('all phases done');
    notifier.watchdog();
    const messages = [native.notifyReceive(socket), native.notifyReceive(socket)];
    assert.deepEqual(
      messages.map((message) => [message?.pid, Buffer.from(message?.data ?? []).toString()]),
      [
        [process.pid, 'READY=1\nSTATUS=all phases done'],
        [process.pid, 'WATCHDOG=1'],
      ],
    );
    assert.deepEqual(warnings, []);
  } finally {
    closeSync(socket);
    rmSync(directory, { recursive: true });
  }
});

test('[HOST-10] [HOST-13] [HOST-55] each message has its own assignments', () => {
  const { sent, notifier } = recorded();
  notifier.ready();
  notifier.stopping('draining');
  notifier.reloading();
  notifier.status('opening stores');
  notifier.extendTimeout(1_500_000.4);
  notifier.watchdog();
  assert.deepEqual(sent, [
    'READY=1',
    'STOPPING=1\nSTATUS=draining',
    'RELOADING=1\nMONOTONIC_USEC=5000',
    'STATUS=opening stores',
    'EXTEND_TIMEOUT_USEC=1500000',
    'WATCHDOG=1',
  ]);
});

test('[HOST-55] MONOTONIC_USEC is CLOCK_MONOTONIC in microseconds', () => {
  const sent: string[] = [];
  const send = (_path: string, data: Uint8Array) => void sent.push(Buffer.from(data).toString('utf8'));
  const before = native.monotonicNs() / 1000n;
  new Notifier('/run/notify', send, silent().log).reloading();
  const after = native.monotonicNs() / 1000n;
  const stamp = BigInt(/MONOTONIC_USEC=([0-9]+)$/.exec(sent[0] ?? '')?.[1] ?? '0');
  assert.ok(before <= stamp && stamp <= after, `${before} ${stamp} ${after}`);
});

test('[HOST-8] a status cannot smuggle in another assignment', () => {
  const { sent, notifier } = recorded();
  notifier.status('bad\nREADY=1\r\nx');
  assert.deepEqual(sent, ['STATUS=bad READY=1 x']);
});

test('[HOST-54] without the variable every call succeeds and sends nothing', () => {
  for (const environment of [{}, { NOTIFY_SOCKET: '' }]) {
    let sends = 0;
    const notifier = Notifier.fromEnvironment(environment, () => void sends++, silent().log);
    notifier.ready();
    notifier.stopping();
    notifier.watchdog();
    assert.equal(sends, 0);
  }
});

test('[HOST-54] the variable leaves the environment of child processes', () => {
  const environment = { NOTIFY_SOCKET: '@abstract', HOME: '/' };
  const notifier = Notifier.fromEnvironment(environment, () => undefined, silent().log);
  assert.deepEqual(environment, { HOME: '/' });
  assert.equal(notifier.path, '@abstract');
});

test('[HOST-54] a send error is logged once and never fatal', () => {
  const { warnings, log } = silent();
  const notifier = new Notifier('/nonexistent/notify.sock', native.sendDatagram, log);
  notifier.ready();
  notifier.watchdog();
  assert.equal(warnings.length, 1);
  assert.match(
    warnings[0] ?? '',
    /cannot notify the service manager on \/nonexistent\/notify\.sock: .*ENOENT/,
  );
});

test('[HOST-22] [HOST-55] pings come at a third of the manager’s interval, else of the service key’s', () => {
  assert.equal(watchdogPingMs({ WATCHDOG_USEC: '30000000' }, 5, 0), 10000);
  assert.equal(watchdogPingMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '5' }, 5, 60), 10000);
  assert.equal(watchdogPingMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '6' }, 5, 60), 20000);
  assert.equal(watchdogPingMs({ WATCHDOG_USEC: 'often' }, 5, 60), 20000);
  assert.equal(watchdogPingMs({ WATCHDOG_USEC: '0' }, 5, 60), null);
  assert.equal(watchdogPingMs({}, 5, 0), null);
});

test('[LIFE-210] [HOST-18] [HOST-22] a limit that means none is a day: no timer takes the largest number', () => {
  assert.deepEqual([stopBoundMs(30), stopBoundMs(0)], [29_000, 1000]);
  const day = 24 * 3600 * 1000;
  assert.equal(stopBoundMs(0xffff_ffff), day);
  assert.equal(watchdogPingMs({}, 5, 0xffff_ffff), day / 3);
  assert.equal(watchdogPingMs({ WATCHDOG_USEC: '9'.repeat(15) }, 5, 0), day / 3);
});
