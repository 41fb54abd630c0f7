/** What the maintenance thread is told to take in. */
import type { MessagePort } from 'node:worker_threads';

/** An actor that lives in the maintenance thread beside others. */
export interface Tenancy {
  readonly id: number;
  /** URL of its module, which exports {@link Tenant} as `tenant`. */
  readonly entry: string;
  readonly data: Record<string, unknown>;
  /** To the daemon; the tenant closes it when it is done. */
  readonly port: MessagePort;
}

/** Starts an actor between its data and its port to the daemon. */
export type Tenant = (data: unknown, port: MessagePort) => void;

/** The tenant with this id has closed its port. */
export interface TenantGone {
  readonly type: 'gone';
  readonly id: number;
}
