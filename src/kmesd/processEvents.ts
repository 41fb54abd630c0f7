/** A process start or exit as the kernel's process connector reports it. */
export type ProcessEvent =
  | { readonly kind: 'exec'; readonly pid: number }
  | {
      readonly kind: 'exit';
      readonly pid: number;
      readonly exitCode: number;
      readonly signal: number | null;
    };

/** Bytes of one packed record: u32 kind, u32 pid, u32 wait status, u32 zero; little-endian. */
export const PROCESS_RECORD_BYTES = 16;
const KIND_EXEC = 1;
const KIND_EXIT = 2;

/** Unpacks what the addon's `processEvents` delivered; unknown kinds are skipped. */
export function decodeProcessEvents(records: Uint8Array): ProcessEvent[] {
  const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
  const events: ProcessEvent[] = [];
  for (let at = 0; at + PROCESS_RECORD_BYTES <= records.length; at += PROCESS_RECORD_BYTES) {
    const kind = view.getUint32(at, true);
    const pid = view.getUint32(at + 4, true);
    if (kind === KIND_EXEC) events.push({ kind: 'exec', pid });
    else if (kind === KIND_EXIT)
      events.push({ kind: 'exit', pid, ...waitStatus(view.getUint32(at + 8, true)) });
  }
  return events;
}

/** Splits a wait(2) status into exit code and killing signal. */
export function waitStatus(status: number): { readonly exitCode: number; readonly signal: number | null } {
  const signal = status & 0x7f;
  return { exitCode: (status >> 8) & 0xff, signal: signal === 0 ? null : signal };
}
