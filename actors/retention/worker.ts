/** The sweeper in the maintenance thread, between its databases and the daemon's port. */
import { tenantOf } from '../maintenance/tenantThread.js';
import type { FromRetention, ToRetention } from './messages.js';
import { type RetentionData, startRetention } from './retention.js';

export const tenant = tenantOf<RetentionData, ToRetention, FromRetention>('retention', (data, commands$) =>
  startRetention({ ...data, commands$ }),
);
