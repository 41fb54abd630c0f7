/** errno names the registry answers with (HOST-38). */
export type RegistryErrorCode =
  | 'ENOENT'
  | 'EACCES'
  | 'EIO'
  | 'EINVAL'
  | 'ENAMETOOLONG'
  | 'ENOSPC'
  | 'EAGAIN'
  | 'ETIMEDOUT';

/** A failed registry operation; the message is fit for an operator. */
export class RegistryError extends Error {
  override readonly name = 'RegistryError';

  constructor(
    readonly code: RegistryErrorCode,
    message: string,
  ) {
    super(message);
  }
}
