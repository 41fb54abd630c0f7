/** The rollup advisor in the maintenance thread, between its databases and the daemon's port. */
import { tenantOf } from '../maintenance/tenantThread.js';
import type { FromRollups, ToRollups } from './messages.js';
import { type RollupData, startRollupAdvisor } from './rollupAdvisor.js';

export const tenant = tenantOf<RollupData, ToRollups, FromRollups>('rollup-advisor', (data, commands$) =>
  startRollupAdvisor({ ...data, commands$ }),
);
