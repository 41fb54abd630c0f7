/** Writes one database of the data set, in a process of its own: `fill.js KIND PATH ROWS SHARD`. */
import { type FillKind, fillStore } from './dataset.js';

const [kind, path, rows, shard] = process.argv.slice(2);
if (path === undefined) throw new TypeError('usage: fill.js KIND PATH ROWS SHARD');
fillStore(kind as FillKind, path, Number(rows), Number(shard));
console.log('{}');
