/**
 * XState in one file. What Node finds under its name are several, which cost every thread about 15 ms more
 * of its start than the bundle in the same package; and while eventd starts nobody empties the rings.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type * as XState from 'xstate';

const require = createRequire(import.meta.url);
const bundle = join(dirname(require.resolve('xstate/package.json')), 'dist/xstate.umd.min.js');

export const { assign, cancel, createActor, fromCallback, fromPromise, raise, sendTo, setup } = require(
  bundle,
) as typeof XState;
