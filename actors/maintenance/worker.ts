/** Entry of the maintenance thread: the actors whose work may wait share it. */
import { parentPort } from 'node:worker_threads';
import { native } from '../../src/native/addon.js';
import type { Tenancy, Tenant, TenantGone } from './tenant.js';

if (parentPort === null) throw new Error('maintenance/worker.js runs as a worker thread only');
const daemon = parentPort;
native.threadBatch();

daemon.on('message', async ({ id, entry, data, port }: Tenancy) => {
  const { tenant } = (await import(entry)) as { readonly tenant: Tenant };
  port.on('close', () => daemon.postMessage({ type: 'gone', id } satisfies TenantGone));
  tenant(data, port);
});
