import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { native, type SeriesCacheHandle } from '../../src/native/addon.js';
import { array, encodeTree, int, map, str } from '../fixtures/metricReference.js';

const directory = mkdtempSync(join(tmpdir(), 'native-series-cache-'));
const receiver = native.receiverOpen({
  path: join(directory, 'socket'),
  mode: 0o600,
  capacityBytes: 64 * 2 ** 20,
});
after(() => {
  native.receiverClose(receiver);
  rmSync(directory, { recursive: true });
});

/**
 * One sample for each number, as one step: returns the numbers whose series had to be resolved, which
 * then have the number as their id.
 */
function report(
  cache: SeriesCacheHandle,
  numbers: readonly number[],
  label = (n: number) => String(n),
): number[] {
  for (let i = 0; i < numbers.length; i += 500) {
    const records = numbers
      .slice(i, i + 500)
      .map((n) =>
        map(
          ['name', str('http.requests.total')],
          ['labels', map(['host', str('server1')], ['n', str(label(n))])],
          ['type', str('gauge')],
          ['value', int(n)],
        ),
      );
    const datagram = encodeTree(array(...records));
    assert.ok(native.receiverInject(receiver, datagram));
  }
  const taken = native.receiverTake(receiver);
  assert.ok(taken !== null);
  const { records, unresolved } = native.metricDecode(taken.batch, cache, 1_000_000);
  assert.equal(records, numbers.length);
  const asked: number[] = [];
  for (let i = 0; i < unresolved; i++) {
    const n = Number.parseInt(
      /n=([0-9]+)/.exec(native.metricUnresolved(taken.batch, i).labels)?.[1] ?? '',
      10,
    );
    native.metricResolve(taken.batch, i, BigInt(n), 1);
    asked.push(n);
  }
  native.datagramsRelease(taken.batch);
  return asked;
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

test('[MET-32] [MET-33] hits cost no lookup; as many series as entries stay, one more turns the oldest out', () => {
  const cache = native.seriesCacheOpen(100);
  assert.deepEqual(report(cache, range(0, 100)), range(0, 100));
  assert.deepEqual(report(cache, range(0, 100)), []);
  assert.deepEqual(report(cache, [100, 1]), [100]);
  assert.deepEqual(report(cache, [1, 2]), []);
  assert.deepEqual(report(cache, [0]), [0]);
  const { entries, hits, misses } = native.seriesCacheStatus(cache);
  assert.deepEqual({ entries, hits, misses }, { entries: 100, hits: 103n, misses: 102n });
  // A cycle over more series than entries misses every time (MET-33).
  for (let cycle = 0; cycle < 2; cycle++) {
    for (let from = 200; from < 310; from += 10)
      assert.deepEqual(report(cache, range(from, from + 10)), range(from, from + 10));
  }
  native.seriesCacheClose(cache);
});

/* ---- Against a Map in order of use ---- */

type Command =
  | { readonly kind: 'report'; readonly numbers: readonly number[] }
  | { readonly kind: 'forget'; readonly ids: readonly number[] }
  | { readonly kind: 'limit'; readonly capacity: number }
  | { readonly kind: 'committed' | 'rolledBack' };

class Model {
  /** Least recently used first; true = made since the last commit. */
  #used = new Map<number, boolean>();
  #capacity: number;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#used.size;
  }

  apply(command: Command): number[] {
    switch (command.kind) {
      case 'report':
        return this.#report(command.numbers);
      case 'forget':
        for (const id of command.ids) this.#used.delete(id);
        break;
      case 'limit':
        this.#capacity = command.capacity;
        this.#trim();
        break;
      case 'committed':
        for (const key of this.#used.keys()) this.#used.set(key, false);
        break;
      case 'rolledBack':
        for (const [key, uncommitted] of [...this.#used]) if (uncommitted) this.#used.delete(key);
    }
    return [];
  }

  #report(numbers: readonly number[]): number[] {
    const asked = new Set<number>();
    for (const n of numbers) {
      const known = this.#used.get(n);
      if (known === undefined) asked.add(n);
      else this.#touch(n, known);
    }
    for (const n of asked) {
      this.#touch(n, true);
      this.#trim();
    }
    return [...asked];
  }

  #touch(n: number, uncommitted: boolean): void {
    this.#used.delete(n);
    this.#used.set(n, uncommitted);
  }

  #trim(): void {
    for (const key of this.#used.keys()) {
      if (this.#used.size <= this.#capacity) return;
      this.#used.delete(key);
    }
  }
}

const number = fc.nat(24);
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc
      .array(number, { minLength: 1, maxLength: 12 })
      .map((numbers) => ({ kind: 'report', numbers }) as const),
  },
  {
    weight: 2,
    arbitrary: fc.array(number, { maxLength: 5 }).map((ids) => ({ kind: 'forget', ids }) as const),
  },
  {
    weight: 1,
    arbitrary: fc.integer({ min: 1, max: 20 }).map((capacity) => ({ kind: 'limit', capacity }) as const),
  },
  { weight: 3, arbitrary: fc.constantFrom({ kind: 'committed' } as const, { kind: 'rolledBack' } as const) },
);

function execute(cache: SeriesCacheHandle, command: Command): number[] {
  switch (command.kind) {
    case 'report':
      return report(cache, command.numbers);
    case 'forget':
      native.seriesCacheForget(cache, BigInt64Array.from(command.ids, BigInt));
      break;
    case 'limit':
      native.seriesCacheLimit(cache, command.capacity);
      break;
    case 'committed':
      native.seriesCacheCommitted(cache);
      break;
    case 'rolledBack':
      native.seriesCacheRolledBack(cache);
  }
  return [];
}

test('[MET-32] [MET-37] the cache agrees with a map in order of use: limits, rollbacks and deletions included', () => {
  fc.assert(
    fc.property(
      fc.array(command, { maxLength: 40 }),
      fc.integer({ min: 1, max: 20 }),
      (commands, capacity) => {
        const cache = native.seriesCacheOpen(capacity);
        const model = new Model(capacity);
        for (const command of commands) {
          assert.deepEqual(execute(cache, command), model.apply(command));
          assert.equal(native.seriesCacheStatus(cache).entries, model.size);
        }
        native.seriesCacheClose(cache);
      },
    ),
    { numRuns: 300 },
  );
});

test('[MET-34] [MET-37] memory stays within 300 bytes an entry, and goes back at once with a smaller capacity', () => {
  const cache = native.seriesCacheOpen(5000);
  for (let from = 0; from < 40_000; from += 8000) {
    report(cache, range(from, from + 8000));
    native.seriesCacheCommitted(cache);
    const { entries, bytes } = native.seriesCacheStatus(cache);
    assert.equal(entries, 5000);
    assert.ok(bytes <= 5000 * 300, `${bytes} bytes`);
  }
  native.seriesCacheLimit(cache, 1000);
  const { entries, bytes } = native.seriesCacheStatus(cache);
  assert.equal(entries, 1000);
  assert.ok(bytes <= 1000 * 300, `${bytes} bytes`);
  native.seriesCacheClose(cache);
});

test('[MET-34] labels of any length take no more memory than the cache was given', () => {
  const cache = native.seriesCacheOpen(1000);
  const long = 'x'.repeat(6000);
  for (let from = 0; from < 1000; from += 20) report(cache, range(from, from + 20), (n) => `${n}-${long}`);
  const { entries, bytes } = native.seriesCacheStatus(cache);
  assert.ok(entries > 50 && entries < 100, `${entries} entries`);
  assert.ok(bytes <= 1000 * 512 + 65_536, `${bytes} bytes`);
  native.seriesCacheClose(cache);
});
