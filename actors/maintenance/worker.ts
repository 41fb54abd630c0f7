/** Entry of the maintenance thread: the actors whose work may wait share it. */
import { parentPort } from 'node:worker_threads';
import { native } from '../../src/native/addon.js';
import type { Tenancy, Tenant, TenantGone } from './tenant.js';

if (parentPort === null) throw new Error('maintenance/worker.js runs as a worker thread only');
const daemon = parentPort;
native.threadBatch();

daemon.on('message', async ({ id, entry, data, port }: Tenancy) => {
  let evicted = false;
  // Before the import: the daemon may close the port while that runs, and it closes only once.
  port.once('close', () => {
    evicted = true;
    daemon.postMessage({ type: 'gone', id } satisfies TenantGone);
  });
  const { tenant } = (await import(entry)) as { readonly tenant: Tenant };
  // Nobody could stop it.
  if (!evicted) tenant(data, port);
});
