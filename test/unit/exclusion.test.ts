import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import Database from 'better-sqlite3';
import { inspectEventStore, openEventStore } from '../../src/stores/eventStore.js';
import {
  dropStaleMarks,
  exclude,
  exclusionOf,
  markOf,
  setStrayWalAside,
} from '../../src/stores/exclusion.js';
import { openShardWriter } from '../../src/stores/shard.js';

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'exclusion-'));
  file = join(directory, 'shard-0001.db');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const WHEN = new Date('2026-03-04T05:06:07.089Z');

test('[FAIL-13] [FAIL-15] a shard is excluded by a mark beside it, which says when, why, and how to end it', () => {
  writeFileSync(file, 'not looked at');
  assert.equal(exclusionOf(file), null);
  exclude(file, 'SQLITE_CORRUPT: database disk image is malformed', WHEN);
  assert.equal(markOf(file), `${file}.excluded`);
  assert.equal(
    readFileSync(markOf(file), 'utf8'),
    '2026-03-04T05:06:07.089Z SQLITE_CORRUPT: database disk image is malformed\n',
  );
  assert.equal(statSync(markOf(file)).mode & 0o777, 0o600, 'nobody else’s to read');
  assert.equal(
    exclusionOf(file),
    'excluded since 2026-03-04T05:06:07.089Z SQLITE_CORRUPT: database disk image is malformed; ' +
      'remove shard-0001.db.excluded once it is repaired',
  );
  assert.equal(readFileSync(file, 'utf8'), 'not looked at', 'the shard itself is not touched');
  rmSync(markOf(file));
  assert.equal(exclusionOf(file), null);
});

test('[FAIL-13] the newest reason stands in the mark', () => {
  writeFileSync(file, '');
  exclude(file, 'first', WHEN);
  exclude(file, 'second', WHEN);
  assert.match(exclusionOf(file) ?? '', /second/);
  assert.doesNotMatch(exclusionOf(file) ?? '', /first/);
});

test('[FAIL-13] a mark that cannot be written is an error with its path', () => {
  const nowhere = join(directory, 'missing', 'shard-0001.db');
  assert.throws(() => exclude(nowhere, 'why', WHEN), {
    code: 'ENOENT',
    path: markOf(nowhere),
  });
});

test('[FAIL-13] any mark excludes, whatever somebody wrote into it; of a long one a line of bounded length is shown', () => {
  const cases: readonly [string, RegExp][] = [
    ['', /^excluded since unknown; remove /],
    ['\n\n', /^excluded since unknown; remove /],
    ['  by hand  \nsecond line', /^excluded since by hand; remove /],
    ['x'.repeat(100_000), /^excluded since x{500}; remove /],
  ];
  for (const [text, shown] of cases) {
    writeFileSync(markOf(file), text);
    const reason = exclusionOf(file) ?? '';
    assert.match(reason, shown);
    assert.equal(reason.split('\n').length, 1, 'one line');
  }
});

test('[FAIL-13] a mark whose shard is gone is removed, no other file is', () => {
  const kept = join(directory, 'shard-0000.db');
  for (const path of [kept, markOf(kept), markOf(file), join(directory, 'notes')]) writeFileSync(path, 'x');
  dropStaleMarks(directory);
  assert.deepEqual(readdirSync(directory).sort(), ['notes', 'shard-0000.db', 'shard-0000.db.excluded']);
  dropStaleMarks(directory);
  assert.ok(existsSync(markOf(kept)), 'a mark that is in use stays, however often it is looked at');
});

test('[FAIL-19] a WAL whose database is gone is set aside under a new name, and nothing is deleted', () => {
  writeFileSync(`${file}-wal`, 'wal');
  writeFileSync(`${file}-shm`, 'shm');
  const aside = setStrayWalAside(file, WHEN);
  assert.deepEqual(
    aside.map((path) => basename(path)),
    [
      'shard-0001.db.orphan-2026-03-04T05-06-07-089Z-wal',
      'shard-0001.db.orphan-2026-03-04T05-06-07-089Z-shm',
    ],
  );
  assert.deepEqual(
    aside.map((path) => readFileSync(path, 'utf8')),
    ['wal', 'shm'],
  );
  assert.deepEqual(readdirSync(directory).sort(), aside.map((path) => basename(path)).sort());
  assert.deepEqual(setStrayWalAside(file, WHEN), [], 'there is nothing left to set aside');
});

test('[FAIL-19] a WAL alone, without its shared memory, is set aside too', () => {
  writeFileSync(`${file}-wal`, 'wal');
  assert.equal(setStrayWalAside(file, WHEN).length, 1);
  assert.ok(!existsSync(`${file}-wal`));
});

test('[FAIL-19] a new shard does not swallow the WAL of the one that had its name', () => {
  const old = openShardWriter(file);
  old.exec("INSERT INTO metadata VALUES ('of', 'the old one')");
  // As after a crash: the WAL holds the row, the database was taken away.
  const wal = readFileSync(`${file}-wal`);
  old.close();
  rmSync(file);
  writeFileSync(`${file}-wal`, wal);
  const fresh = openShardWriter(file);
  const rows = fresh.prepare("SELECT count(*) FROM metadata WHERE key = 'of'").pluck().get();
  fresh.close();
  assert.equal(rows, 0n);
  const [aside] = readdirSync(directory).filter((name) => name.includes('.orphan-'));
  assert.ok(aside !== undefined);
  assert.deepEqual(readFileSync(join(directory, aside)), wal);
});

test('[FAIL-13] [FAIL-15] [FAIL-20] a marked shard is left alone by every later start, until the mark is removed', () => {
  const events = join(directory, 'events');
  mkdirSync(events);
  const [first, second] = openEventStore(events, 2).shards;
  assert.ok(first !== undefined && second !== undefined);
  const before = readFileSync(first.file);
  exclude(first.file, 'SQLITE_CORRUPT: page 7', WHEN);
  for (let start = 0; start < 2; start++) {
    const plan = openEventStore(events, 2);
    assert.deepEqual(plan.shards, [second]);
    assert.deepEqual(
      plan.excluded.map(({ shard, error }) => [shard, error.kind]),
      [[0, 'corrupt']],
    );
    assert.match(plan.excluded[0]?.error.message ?? '', /excluded since 2026.*page 7/);
  }
  assert.match(inspectEventStore(events, 2)[0]?.detail ?? '', /excluded since 2026.*page 7/);
  assert.deepEqual(readFileSync(first.file), before, 'not a byte of it was written');
  const reader = new Database(first.file, { readonly: true });
  assert.ok(reader.prepare('SELECT count(*) FROM metadata').pluck().get(), 'it can be read');
  reader.close();

  rmSync(markOf(first.file));
  assert.deepEqual(openEventStore(events, 2).shards, [first, second]);
});

test('[FAIL-13] a mark of a shard that is gone does not keep the new one of that name from being written', () => {
  const events = join(directory, 'events');
  const [only] = openEventStore(events, 1).shards;
  assert.ok(only !== undefined);
  exclude(only.file, 'SQLITE_CORRUPT', WHEN);
  for (const suffix of ['', '-wal', '-shm']) rmSync(`${only.file}${suffix}`, { force: true });
  assert.deepEqual(openEventStore(events, 1), { shards: [only], excluded: [] });
  assert.ok(!existsSync(markOf(only.file)));
});

test('[FAIL-18] [FAIL-19] when every shard is marked, fresh ones take over, and a marked replacement is replaced in turn', () => {
  const events = join(directory, 'events');
  openEventStore(events, 1);
  exclude(join(events, 'shard-0000.db'), 'SQLITE_CORRUPT', WHEN);
  const replacement = { shard: 0, file: join(events, 'shard-0001.db') };
  assert.deepEqual(openEventStore(events, 1).shards, [replacement]);
  assert.deepEqual(openEventStore(events, 1).shards, [replacement], 'the same one again');
  exclude(replacement.file, 'SQLITE_CORRUPT', WHEN);
  assert.deepEqual(openEventStore(events, 1).shards, [{ shard: 0, file: join(events, 'shard-0002.db') }]);
  assert.deepEqual(
    readdirSync(events).filter((name) => name.endsWith('.db')),
    ['shard-0000.db', 'shard-0001.db', 'shard-0002.db'],
  );
});
