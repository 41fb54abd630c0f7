/** What it costs others to decide by which index a query goes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseSql } from '../../src/indexes/choice.js';
import { createStatement } from '../../src/indexes/fields.js';
import { openStore, translate } from '../fixtures/queryStore.js';

test('[QX-67] [QX-13] others get a turn after each count, and few ways are counted far', () => {
  const terms = Array.from({ length: 8 }, (_, n) => `${n % 2 === 0 ? 'user' : 'code'} == ${n}`);
  const statement = translate(`EVENTS WHERE ${terms.join(' AND ')}`);
  const db = openStore();
  for (const field of ['user', 'code']) db.exec(createStatement(field));
  const counts: string[] = [];
  /** A database in which everything is in every row. */
  const vast = {
    prepare: (sql: string) => ({
      all: (...params: unknown[]) => {
        if (sql.includes('sqlite_master')) return db.prepare(sql).all();
        if (sql.includes('count(*)')) counts.push(sql.includes('INDEXED BY') ? 'seek' : 'time');
        return [{ n: params.at(-1), id: 1 }];
      },
    }),
  };
  let inside = 0;
  const execute = <Result>(call: () => Result) => {
    inside++;
    return call();
  };
  const steps = chooseSql(vast, statement, { bind: (params) => params, execute });
  let most = 0;
  let done = false;
  for (; done !== true; inside = 0) {
    ({ done = false } = steps.next());
    most = Math.max(most, inside);
  }
  assert.ok(most <= 2, `${most} calls in one turn`);
  const seeks = counts.filter((what) => what === 'seek').length;
  assert.deepEqual([seeks, counts.length - seeks], [8 + 4 + 4, 3]);
  db.close();
});

test('[QX-13] a condition that is written twice is one way to find its rows', () => {
  const seeksOf = (where: string) => translate(`EVENTS WHERE ${where}`).choice?.seeks.length;
  assert.equal(seeksOf('user == "x" AND code == 1 AND user == "x" AND code == 1'), 2);
  assert.equal(seeksOf('user == "x" AND user == "y" AND user == 1'), 3);
});
