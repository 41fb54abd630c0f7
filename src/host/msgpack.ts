/**
 * The msgpack library in one file. What Node finds under its name are seventeen modules, which cost every
 * thread and every `evctl` some 5 ms more of its start than the bundle in the same package.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type * as Msgpack from '@msgpack/msgpack';

const require = createRequire(import.meta.url);
const bundle = join(dirname(require.resolve('@msgpack/msgpack/package.json')), 'dist.umd/msgpack.min.js');

export const { Decoder, Encoder, decode, encode } = require(bundle) as typeof Msgpack;
export type Decoder = Msgpack.Decoder;
export type Encoder = Msgpack.Encoder;
