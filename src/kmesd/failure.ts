import { messageOf } from '../host/errorMessage.js';

/** A reason kmesd cannot run, in words for its operator: one line, with what to do where that helps. */
export class KmesdError extends Error {
  override readonly name = 'KmesdError';
}

/** The errno name of a failed system call, or null. */
export function errnoOf(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null;
}

/** Any thrown value as one line of text. */
export function reasonOf(error: unknown): string {
  const text = messageOf(error);
  return text.split('\n')[0] ?? text;
}
