import { createRequire } from 'node:module';

/** The version of all programs: that of package.json, two folders above the compiled output of `src/`. */
export function packageVersion(): string {
  const { version } = createRequire(import.meta.url)('../../../package.json') as { readonly version: string };
  return version;
}
