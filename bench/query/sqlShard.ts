/**
 * SQL with our functions over one database, in a process of its own: `sqlShard.js PATH SQL`. Prints rows and
 * ms as JSON, without the start of the process.
 */
import Database from 'better-sqlite3';
import { addonPath } from '../../src/native/addon.js';

const [path, sql] = process.argv.slice(2);
if (path === undefined || sql === undefined) throw new TypeError('usage: sqlShard.js PATH SQL');
const started = performance.now();
const db = new Database(path, { readonly: true });
db.loadExtension(addonPath);
const rows = db.prepare(sql).raw().all().length;
db.close();
console.log(JSON.stringify({ rows, ms: performance.now() - started }));
