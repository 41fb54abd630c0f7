import { errorText } from '../src/stores/storeError.js';

/** An error as plain data, for machines and for other threads. */
export interface PlainFailure {
  /** Of SQLite or of the system where it has one. */
  readonly code: string;
  readonly message: string;
}

/** `fallback`: the code of an error that has none. What is plain already stays as it is. */
export function plainFailure(error: unknown, fallback: string): PlainFailure {
  const { code, message } = (error ?? {}) as { readonly code?: unknown; readonly message?: unknown };
  const isPlain = !(error instanceof Error) && typeof message === 'string';
  return { code: typeof code === 'string' ? code : fallback, message: isPlain ? message : errorText(error) };
}
