#!/usr/bin/env node
/** kmesd: the embedded KMES for ordinary Linux. See docs/kmesd.md. */
import { readFileSync } from 'node:fs';
import { openLog } from '../src/host/processLog.js';
import { main } from '../src/kmesd/main.js';

const log = openLog('kmesd');
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

process.exitCode = await main(process.argv.slice(2), process.env, log, version);
