/** What the kernel is asked about others; see `addon.ts`. */

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** One access check by the Peios kernel; every part is copied before the call returns. */
export interface KacsCheck {
  /** Descriptor of the caller's token. */
  readonly token: number;
  /** Self-relative security descriptor. */
  readonly descriptor: Uint8Array;
  readonly desired: number;
  readonly mapping: {
    readonly read: number;
    readonly write: number;
    readonly execute: number;
    readonly all: number;
  };
  /** Entries of 20 bytes (u16 level, u16 zero, GUID); empty = no list. */
  readonly nodes: Uint8Array;
  /** Claim array; empty = none. */
  readonly claims: Uint8Array;
  /** UTF-8; empty = none. */
  readonly context: Uint8Array;
}
