/** Finds, in rows about to be sent, what nobody has decided about: new names, and new fields of known ones (ACL-50). */
import type { FieldPath } from '../../../src/access/fieldLists.js';
import { foldAscii, nameTest } from '../../../src/query/nameMatch.js';
import type { DecidedNames } from '../../../src/query/predicateProgram.js';
import { type Found, merged } from '../../../src/query/survey.js';
import type { ReadConnection } from '../../../src/stores/readConnection.js';
import { decodePaths } from '../eventNames.js';
import type { TailStore } from './databases.js';

const NAMES: Readonly<Record<TailStore, string>> = {
  events: 'SELECT DISTINCT event_type COLLATE BINARY FROM events WHERE id > ? AND id <= ?',
  logs: 'SELECT DISTINCT origin COLLATE BINARY FROM logs WHERE +id > ? AND id <= ?',
};

const FIELDS =
  'SELECT DISTINCT event_type COLLATE BINARY AS name, payload_paths(payload) AS paths FROM events' +
  ' WHERE id > ? AND id <= ? AND event_type COLLATE NOCASE IN (SELECT value FROM json_each(?))';

/** A test of rows for one program. */
export type Undecided = (connection: ReadConnection, after: bigint, upTo: bigint) => Found;

/** Empty answers: all is decided. */
export function undecided(store: TailStore, { patterns, names }: DecidedNames): Undecided {
  const tests = patterns.map((pattern) => nameTest(pattern));
  const concerns = (name: string) => tests.length === 0 || tests.some((test) => test(name));
  // A name asked for in full may be written in another case.
  const known = new Map([...names].map(([name, fields]) => [foldAscii(name), fields]));
  const withFields = JSON.stringify([...names].flatMap(([name, fields]) => (fields === null ? [] : [name])));
  return (connection, after, upTo) => {
    const found = connection.prepare(NAMES[store]).pluck().all(after, upTo) as string[];
    const news: [string, readonly FieldPath[]][] = found
      .filter((name) => !names.has(name) && !known.has(foldAscii(name)) && concerns(name))
      .map((name) => [name, []]);
    if (withFields === '[]') return news;
    const rows = connection.prepare(FIELDS).all(after, upTo, withFields) as NamePaths[];
    for (const { name, paths } of rows) {
      const fields = known.get(foldAscii(name));
      const fresh = decodePaths(paths).filter((path) => fields?.has(JSON.stringify(path)) === false);
      if (fresh.length > 0) news.push([name, fresh]);
    }
    return [...merged(news)];
  };
}

interface NamePaths {
  readonly name: string;
  readonly paths: Uint8Array;
}
