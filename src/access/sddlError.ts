/** A mistake in SDDL text, or a descriptor SDDL cannot express. `code` is always `ERR_SDDL`. */
export class SddlError extends Error {
  readonly code = 'ERR_SDDL';
  override readonly name = 'SddlError';

  constructor(
    readonly reason: string,
    /** 0-based offset of the mistake in the SDDL text. */
    readonly offset: number,
  ) {
    super(`${reason} at position ${offset + 1}`);
  }
}
