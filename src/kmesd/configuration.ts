import { encode } from '../host/msgpack.js';
import { NO_IDENTITY } from './identity.js';
import type { EmitLimits, KmesKeyName } from './limits.js';
import { isKmesKey, rangeError } from './limits.js';
import type { Report } from './report.js';
import type { RingSet } from './rings.js';
import type { TokenBuckets } from './tokenBucket.js';

/** Origin class of events KMES makes about itself (KMES-36). */
export const ORIGIN_KMES = 1;
/** Payload {key, value, retained}: an invalid value was ignored (KMES-150). */
export const CONFIG_REJECTED = 'kmes.config_rejected';
/** Payload {reason, requested, retained}: rings kept their size (KMES-157). */
export const RESIZE_FAILED = 'kmes.resize_failed';

/** `unknown`: no such key, ignored. `invalid`: bad value. `failed`: valid, but the rings could not be replaced. */
export type ConfigureResult =
  | { readonly outcome: 'applied' }
  | { readonly outcome: 'unknown' | 'invalid' | 'failed'; readonly reason: string };

const SHOWN_VALUE_LENGTH = 64;

/** The live values of KMES: valid changes apply at once, invalid ones are ignored and told about. */
export class Configuration {
  constructor(
    readonly limits: EmitLimits,
    private readonly rings: RingSet,
    private readonly buckets: TokenBuckets,
    private readonly report: Report,
  ) {}

  /** Sets one key (KMES-149..151). */
  apply(key: string, value: unknown): ConfigureResult {
    if (!isKmesKey(key))
      return { outcome: 'unknown', reason: `no such key: ${key.slice(0, SHOWN_VALUE_LENGTH)}` };
    const problem = rangeError(key, value);
    if (problem !== null || typeof value !== 'number') {
      const retained = this.#current(key);
      this.#tell(CONFIG_REJECTED, { key, value: shown(value), retained });
      const reason = `${key} ${problem}; ${retained} stays`;
      this.report.warn(reason);
      return { outcome: 'invalid', reason };
    }
    return this.#set(key, value);
  }

  #set(key: KmesKeyName, value: number): ConfigureResult {
    switch (key) {
      case 'BufferCapacity':
        return this.resize(value);
      case 'MaxEventSize':
        this.limits.maxEventSize = value;
        break;
      case 'MaxNestingDepth':
        this.limits.maxNestingDepth = value;
        break;
      case 'MaxEmitRatePerProcess':
        this.limits.maxEmitRate = value;
        this.buckets.setRate(value);
        break;
    }
    return { outcome: 'applied' };
  }

  /** Brings every ring to `capacity`; on failure the old size stays and an event says so (KMES-157). */
  resize(capacity: number): ConfigureResult {
    const before = this.rings.capacity;
    const result = this.rings.resize(capacity);
    if (result.ok) return { outcome: 'applied' };
    const retained = this.rings.capacity;
    this.#tell(RESIZE_FAILED, { reason: result.reason, requested: capacity, retained });
    const reason = `rings of ${before} bytes could not be replaced by ${capacity} bytes: ${result.reason}`;
    this.report.error(reason);
    return { outcome: 'failed', reason };
  }

  #current(key: KmesKeyName): number {
    switch (key) {
      case 'BufferCapacity':
        return this.rings.capacity;
      case 'MaxEventSize':
        return this.limits.maxEventSize;
      case 'MaxNestingDepth':
        return this.limits.maxNestingDepth;
      case 'MaxEmitRatePerProcess':
        return this.limits.maxEmitRate;
    }
  }

  #tell(type: string, payload: Readonly<Record<string, unknown>>): void {
    this.rings.first.write(ORIGIN_KMES, [{ type: Buffer.from(type), payload: encode(payload) }], NO_IDENTITY);
  }
}

function shown(value: unknown): number | string {
  if (typeof value === 'number') return value;
  if (value instanceof Uint8Array) return Buffer.from(value).toString('utf8').slice(0, SHOWN_VALUE_LENGTH);
  return String(value).slice(0, SHOWN_VALUE_LENGTH);
}
