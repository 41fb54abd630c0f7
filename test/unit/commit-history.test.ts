import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommitHistory } from '../../actors/query/tail/history.js';

const entry = (ticket: number, source: number, last: number, rows: number) => ({
  ticket: BigInt(ticket),
  source,
  last: BigInt(last),
  rows,
});

test('[STR-3, STR-8] commits are walked in the order of their tickets, from any of them on', () => {
  const history = new CommitHistory();
  for (const ticket of [3, 4, 7]) history.add(entry(ticket, 0, ticket, 1));
  assert.deepEqual(
    [0n, 4n, 5n, 7n, 8n].map((ticket) => history.from(ticket)?.ticket ?? null),
    [3n, 4n, 7n, 7n, null],
  );
  history.clear();
  assert.equal(history.from(0n), null);
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
  for (let each = history.from(0n); each !== null; each = history.from(each.ticket + 1n)) left.push(each);
  assert.deepEqual(left, [entry(2, 0, 11, 3), entry(3, 0, 3, 0), entry(5, 1, 9, 9), entry(6, 0, 8, 5)]);
  assert.equal(history.size, 4);
});
