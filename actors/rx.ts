/**
 * RxJS in one file. Its index for Node loads more than two hundred, which costs every thread about
 * 100 ms of its start, and the bundle in the same package about 10 (`npm run bench:startup`). While
 * eventd starts nobody empties the rings, so this time is lost events on a busy machine.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type * as Rx from 'rxjs';

const require = createRequire(import.meta.url);
const bundle = join(dirname(require.resolve('rxjs/package.json')), 'dist/bundles/rxjs.umd.min.js');

export const { EMPTY, Observable, Subject, defer, filter, firstValueFrom, merge, share, take } = require(
  bundle,
) as typeof Rx;
export type Observable<T> = Rx.Observable<T>;
export type Subject<T> = Rx.Subject<T>;
export type Subscription = Rx.Subscription;
