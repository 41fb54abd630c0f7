/**
 * The part of RxJS that eventd uses, from its own modules. The package's index loads more than two
 * hundred files, which costs each thread about 100 ms of its start (`npm run bench:startup`).
 */
export { firstValueFrom } from 'rxjs/internal/firstValueFrom';
export { Observable } from 'rxjs/internal/Observable';
export { merge } from 'rxjs/internal/observable/merge';
export { filter } from 'rxjs/internal/operators/filter';
export { share } from 'rxjs/internal/operators/share';
export { take } from 'rxjs/internal/operators/take';
export { Subject } from 'rxjs/internal/Subject';
export type { Subscription } from 'rxjs/internal/Subscription';
