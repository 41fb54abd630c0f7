/**
 * The four self-configuration values of KMES and their valid ranges (KMES-148), shared by the
 * command line and the administrative `configure` request.
 */

/** One configurable value: an integer range, for the ring capacity restricted to powers of two. */
export interface KmesKey {
  readonly default: number;
  readonly min: number;
  readonly max: number;
  readonly powerOfTwo: boolean;
}

export const KMES_KEYS = {
  /** Data bytes per ring. */
  BufferCapacity: { default: 4_194_304, min: 65_536, max: 268_435_456, powerOfTwo: true },
  /** Header plus payload, bytes. */
  MaxEventSize: { default: 65_536, min: 1024, max: 4_194_304, powerOfTwo: false },
  /** Open arrays and maps, outermost = 1. */
  MaxNestingDepth: { default: 32, min: 4, max: 256, powerOfTwo: false },
  /** Events per second and burst. */
  MaxEmitRatePerProcess: { default: 10_000, min: 100, max: 1_000_000, powerOfTwo: false },
} as const satisfies Record<string, KmesKey>;

export type KmesKeyName = keyof typeof KMES_KEYS;

/** The values that apply to later emit calls; replaced key by key at run time (KMES-149). */
export interface EmitLimits {
  maxEventSize: number;
  maxNestingDepth: number;
  maxEmitRate: number;
}

/** True when `name` is one of the configurable keys. */
export function isKmesKey(name: string): name is KmesKeyName {
  return Object.hasOwn(KMES_KEYS, name);
}

/** Why `value` is not valid for the key, or null when it is. Values are never clamped (KMES-151). */
export function rangeError(name: KmesKeyName, value: unknown): string | null {
  const key: KmesKey = KMES_KEYS[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) return 'must be an integer';
  if (value < key.min || value > key.max) return `must be between ${key.min} and ${key.max}`;
  if (key.powerOfTwo && !Number.isInteger(Math.log2(value))) return 'must be a power of two';
  return null;
}
