/** The events that native/tools/ringload.c writes here: type `soak.r<run>.<ring>`, numbered payloads. */

const TYPE = /^soak\.r(\d+)\.(\d+)$/;
/** {"n": u64, "pad": bin32}: where the number is, and the padding. */
const NUMBER_AT = 4;
const HEAD = Buffer.from('82a16ecf', 'hex');
const PAD_KEY = Buffer.from('a3706164c6', 'hex');
const PAD_AT = 21;

/** The `--type` of a load run; ringload adds the ring. */
export function loadType(run: number): string {
  return `soak.r${run}`;
}

/** Whose event this is; null for events no load generator wrote. */
export function loadOf(type: string): { readonly run: number; readonly cpu: number } | null {
  const match = TYPE.exec(type);
  return match === null ? null : { run: Number(match[1]), cpu: Number(match[2]) };
}

/** The event's number within its run and ring, from the first 12 bytes. */
export function loadNumber(payload: Buffer): number {
  return payload.length < PAD_AT - 9 ? 0 : Number(payload.readBigUInt64BE(NUMBER_AT));
}

/**
 * What is wrong with a payload, or null.
 *
 * @param payload the first 12 bytes, or all
 * @param bytes its length in the store
 */
export function loadEventFault(payload: Buffer, bytes: number): string | null {
  if (payload.length < 12 || !payload.subarray(0, NUMBER_AT).equals(HEAD))
    return 'no payload of the load generator';
  if (payload.length < bytes) return null;
  if (
    bytes < PAD_AT ||
    !payload.subarray(12, 17).equals(PAD_KEY) ||
    payload.readUInt32BE(17) !== bytes - PAD_AT
  )
    return 'the padding is not as it was written';
  for (let i = 0; i < bytes - PAD_AT; i++) {
    if (payload[PAD_AT + i] !== ((i * 31) & 0xff))
      return `byte ${PAD_AT + i} of the payload is not as it was written`;
  }
  return null;
}
