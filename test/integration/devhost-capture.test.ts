import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { DevHost, type ProgramName } from '../../src/devhost/host.js';
import { addonPath, native } from '../../src/native/addon.js';
import { RecordSink, type StoredLine } from '../fixtures/recordSink.js';
import { until } from '../fixtures/wireServer.js';

const LIMIT = { timeout: 60_000 };

/** Prints on both outputs at its start, a line on SIGUSR2, and is ready at once or on SIGUSR1. */
const SERVICE = `
import { createRequire } from 'node:module';
const { sendDatagram } = createRequire(import.meta.url)(process.env.ADDON_PATH);
const ready = () => sendDatagram(process.env.NOTIFY_SOCKET, Buffer.from('READY=1'));
setInterval(() => undefined, 1000);
process.on('SIGUSR1', ready);
process.on('SIGUSR2', () => console.log(name + ' at work'));
process.on('SIGTERM', () => process.exit(0));
console.log(name + ' begins');
console.error('{"level":40,"msg":"' + name + ' warns"}');
if (flood > 0) for (let i = 0; i < flood; i++) console.log('line ' + i + ' ' + 'x'.repeat(100));
if (name === 'kmesd') ready();
else console.log('not ready yet');
`;

/** A host of two such programs; the log socket is the sink's. */
function world(t: TestContext, flood = 0) {
  const sink = new RecordSink(t, 'log');
  const root = mkdtempSync(join(tmpdir(), 'capture-'));
  const script = (name: ProgramName) => {
    const path = join(root, `${name}.mjs`);
    writeFileSync(path, `const name = '${name}', flood = ${name === 'kmesd' ? flood : 0};\n${SERVICE}`);
    return path;
  };
  const printed: string[] = [];
  const host = new DevHost({
    dir: join(root, 'data'),
    scripts: { kmesd: script('kmesd'), eventd: script('eventd') },
    env: { ...process.env, ADDON_PATH: addonPath },
    restart: { firstDelayMs: 10, maxDelayMs: 10, maxRestarts: 3, windowMs: 60_000 },
    onLine: (name, { text }) => printed.push(`${name}: ${text}`),
  });
  t.after(async () => {
    await host.stop();
    rmSync(root, { recursive: true, force: true });
  });
  host.prepare();
  sink.bind(host.paths.logSocket).read();
  const printedAll = (text: string, times = 1) =>
    until(() => printed.filter((line) => line === text).length === times, text);
  return { host, sink, printedAll };
}

/** How many datagrams came, all that were sent before this call included: datagrams keep their order. */
async function datagramsUntilNow(path: string, sink: RecordSink): Promise<bigint> {
  const before = sink.datagrams;
  native.sendDatagram(path, new Uint8Array([0x90]));
  await until(() => sink.datagrams > before, 'a datagram of our own');
  return sink.datagrams - 1n;
}

const shown = (lines: readonly StoredLine[]) =>
  lines.map(({ origin, isError, message }) => `${origin}${isError === 1n ? '!' : ''}: ${message}`);

test(
  '[LOG-55] [LOG-57] [LOG-64] [LOG-67] what the programs print before eventd is ready waits, and then goes in with its times',
  LIMIT,
  async (t) => {
    const { host, sink, printedAll } = world(t);
    const started = host.start();
    await printedAll('eventd: not ready yet');
    await printedAll('eventd: {"level":40,"msg":"eventd warns"}');
    const { logSocket } = host.paths;
    assert.equal(await datagramsUntilNow(logSocket, sink), 0n);
    const readyAt = native.realtimeNs();
    host.signal('eventd', 'SIGUSR1');
    await started;
    const lines = await sink.storedLines(5);
    assert.deepEqual(shown(lines).sort(), [
      'eventd!: {"level":40,"msg":"eventd warns"}',
      'eventd: eventd begins',
      'eventd: not ready yet',
      'kmesd!: {"level":40,"msg":"kmesd warns"}',
      'kmesd: kmesd begins',
    ]);
    assert.deepEqual([...lines.slice(0, 2).map(({ origin }) => origin)], ['kmesd', 'kmesd']);
    for (const { timestamp } of lines) assert.ok(timestamp < readyAt);
    // From now on lines go in as they come.
    host.signal('kmesd', 'SIGUSR2');
    assert.deepEqual(shown(await sink.storedLines(6)).at(-1), 'kmesd: kmesd at work');
    assert.equal(host.droppedLines, 0);
  },
);

test('[LOG-70] lines printed while eventd is dead wait until it is ready again', LIMIT, async (t) => {
  const { host, sink, printedAll } = world(t);
  const started = host.start();
  await printedAll('eventd: not ready yet');
  host.signal('eventd', 'SIGUSR1');
  await started;
  await sink.storedLines(5);
  await host.kill('eventd');
  // Nobody has the socket; it comes back before the new eventd is ready.
  sink.close();
  host.signal('kmesd', 'SIGUSR2');
  await printedAll('kmesd: kmesd at work');
  sink.bind(host.paths.logSocket).read();
  await printedAll('eventd: not ready yet', 2);
  assert.equal(await datagramsUntilNow(host.paths.logSocket, sink), 0n);
  host.signal('eventd', 'SIGUSR1');
  const lines = shown(await sink.storedLines(9));
  assert.equal(lines[5], 'kmesd: kmesd at work');
  assert.equal(lines.length, 9);
  assert.equal(host.droppedLines, 0);
});

test(
  '[LOG-64] [LOG-66] before eventd is ready 1 MiB of lines is kept, the newest ones, and the rest is counted',
  LIMIT,
  async (t) => {
    const { host, sink, printedAll } = world(t, 20_000);
    const started = host.start();
    await printedAll(`kmesd: line 19999 ${'x'.repeat(100)}`);
    await printedAll('eventd: not ready yet');
    await printedAll('eventd: {"level":40,"msg":"eventd warns"}');
    host.signal('eventd', 'SIGUSR1');
    await started;
    const all = 20_000 + 5;
    const dropped = host.droppedLines;
    const lines = await sink.storedLines(all - dropped);
    assert.equal(lines.length, all - dropped);
    const bytes = lines.length * 160;
    assert.ok(bytes > 900_000 && bytes < 1_200_000, `${lines.length} lines`);
    const numbers = lines.flatMap(({ message }) => /^line (\d+) /.exec(message)?.[1] ?? []).map(Number);
    assert.deepEqual(
      numbers,
      Array.from(numbers, (_, i) => 20_000 - numbers.length + i),
    );
  },
);
