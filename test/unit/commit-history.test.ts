import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommitHistory } from '../../actors/query/tail/history.js';

const entry = (ticket: number, source: number, last: number, rows: number) => ({
  ticket: BigInt(ticket),
  source,
  last: BigInt(last),
  rows,
});

test('[STR-3, STR-8] commits are walked in the order they came in, from any of them on', () => {
  const history = new CommitHistory();
  // What stands for missed signals has one ticket for several databases.
  for (const [ticket, source] of [
    [3, 0],
    [7, 1],
    [7, 2],
  ] as const)
    history.add(entry(ticket, source, ticket, 1));
  assert.deepEqual(
    [0, 1, 2, 3].map((place) => history.from(place)?.source ?? null),
    [0, 1, 2, null],
  );
  assert.deepEqual(
    history.since(1).map(({ source }) => source),
    [1, 2],
  );
  const { next } = history;
  history.clear();
  assert.equal(history.from(0), null);
  history.add(entry(9, 5, 1, 1));
  assert.equal(history.from(next)?.source, 5);
});

test('[STR-3, STR-15] a long history is bounded: batches of a database are put together, never over a restart of its ids', () => {
  const history = new CommitHistory(6);
  history.add(entry(0, 0, 10, 2));
  history.add(entry(1, 1, 5, 5));
  history.add(entry(2, 0, 11, 1));
  history.add(entry(3, 0, 3, 0));
  history.add(entry(4, 0, 7, 4));
  history.add(entry(5, 1, 9, 4));
  history.add(entry(6, 0, 8, 1));
  const left: unknown[] = [];
  for (let each = history.from(0); each !== null; each = history.from(each.place + 1)) {
    const { place, ...rest } = each;
    assert.equal(BigInt(place), rest.ticket);
    left.push(rest);
  }
  assert.deepEqual(left, [entry(2, 0, 11, 3), entry(3, 0, 3, 0), entry(5, 1, 9, 9), entry(6, 0, 8, 5)]);
  assert.equal(history.size, 4);
});
