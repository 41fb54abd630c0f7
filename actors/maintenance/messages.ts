/** What the daemon and every actor of the maintenance thread say to each other. */

/** Daemon to the actor. */
export type ToTenant =
  /** It writes down what it has to, and ends; answered by `closed`. */
  | { readonly type: 'stop' }
  | { readonly type: 'inspect'; readonly on: boolean }
  | { readonly type: 'dump' }
  | { readonly type: 'ping' };

/** The actor to the daemon. */
export type FromTenant<Dump> =
  | { readonly type: 'ready' }
  | { readonly type: 'closed' }
  | { readonly type: 'inspection'; readonly message: unknown }
  | { readonly type: 'dumped'; readonly dump: Dump }
  | { readonly type: 'pong' };

/** Daemon to one that writes under a lease (RET-8). */
export type LeaseAnswer =
  /** How full the writer's buffer was when it granted the lease, 0..1. */
  | { readonly type: 'leaseGranted'; readonly id: number; readonly pressure: number }
  | { readonly type: 'leaseRefused'; readonly id: number };
