#!/usr/bin/env node
/** kmesd: the embedded KMES for ordinary Linux. See docs/kmesd.md. */
import { openLog } from '../src/host/processLog.js';
import { packageVersion } from '../src/host/version.js';
import { main } from '../src/kmesd/main.js';

const log = openLog('kmesd');
process.exitCode = await main(process.argv.slice(2), process.env, log, packageVersion());
