/** The index advisor in the maintenance thread, between its database and the daemon's port. */
import { tenantOf } from '../maintenance/tenantThread.js';
import { type AdvisorData, startIndexAdvisor } from './indexAdvisor.js';
import type { FromAdvisor, ToAdvisor } from './messages.js';

export const tenant = tenantOf<AdvisorData, ToAdvisor, FromAdvisor>('index-advisor', (data, commands$) =>
  startIndexAdvisor({ ...data, commands$ }),
);
