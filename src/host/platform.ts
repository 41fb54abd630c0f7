/** Which adapters serve the ports: the Peios kernel's or the Linux stand-ins (HOST-1..3). */

/** What `--host` asks for. */
export type HostChoice = 'auto' | 'peios' | 'linux';

/** The adapter of one family. */
export type Adapter = 'peios' | 'linux';

/** The families of kernel interfaces that are probed apart from each other. */
export type KernelFamily = 'kacs' | 'lcs' | 'kmes';

/** Makes a system call with one harmless argument; returns its errno name. */
export type ProbeSyscall = (number: number, argument: bigint) => string;

export interface Platform {
  readonly adapters: Readonly<Record<KernelFamily, Adapter>>;
  /** True when some families are native and others are not. */
  readonly mixed: boolean;
  /** The choice in one line, for the log. */
  readonly description: string;
}

/** `--host peios` on a kernel that lacks a family. `code` is always `ERR_PLATFORM`. */
export class PlatformError extends Error {
  readonly code = 'ERR_PLATFORM';
  override readonly name = 'PlatformError';
}

interface Probe {
  readonly family: KernelFamily;
  readonly title: string;
  readonly syscall: number;
  /** The first argument; the others are zero. Invalid on purpose: fd -1, a null path, no such CPU (HOST-2). */
  readonly argument: bigint;
}

const PROBES: readonly Probe[] = [
  { family: 'kacs', title: 'access checks (KACS)', syscall: 1010, argument: -1n },
  { family: 'lcs', title: 'registry (LCS)', syscall: 1100, argument: -1n },
  { family: 'kmes', title: 'event rings (KMES)', syscall: 1091, argument: 0xffffffffn },
];

/**
 * Chooses the adapters. `auto` takes the stand-in exactly where the kernel answers ENOSYS; `linux`
 * asks nothing; `peios` accepts no gap.
 *
 * @throws PlatformError
 */
export function choosePlatform(choice: HostChoice, probe: ProbeSyscall): Platform {
  const answers = PROBES.map(({ family, title, syscall, argument }) => {
    const answer = choice === 'linux' ? null : probe(syscall, argument);
    const adapter: Adapter = answer === null || answer === 'ENOSYS' ? 'linux' : 'peios';
    return { family, title, syscall, answer, adapter };
  });
  const missing = answers.filter(({ adapter }) => adapter === 'linux');
  if (choice === 'peios' && missing.length > 0) {
    const calls = missing.map(({ title, syscall }) => `${title}: call ${syscall} answers ENOSYS`).join(', ');
    throw new PlatformError(`--host peios, but this kernel lacks ${calls}`);
  }
  const mixed = missing.length > 0 && missing.length < answers.length;
  const parts = answers.map(
    ({ title, adapter, answer }) => `${title} ${adapter}${answer ? `, probe ${answer}` : ''}`,
  );
  const adapters = { kacs: 'linux', lcs: 'linux', kmes: 'linux' } satisfies Record<KernelFamily, Adapter>;
  return {
    adapters: { ...adapters, ...Object.fromEntries(answers.map(({ family, adapter }) => [family, adapter])) },
    mixed,
    description: `host ${choice}${mixed ? ' (mixed)' : ''}: ${parts.join('; ')}`,
  };
}
