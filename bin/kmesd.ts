#!/usr/bin/env node
/** kmesd: the embedded KMES for ordinary Linux. See docs/kmesd.md. */
import { readFileSync } from 'node:fs';
import { pino } from 'pino';
import { main } from '../src/kmesd/main.js';

const log = pino({ name: 'kmesd' }, pino.destination({ dest: 2, sync: true }));
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

process.exitCode = await main(process.argv.slice(2), process.env, log, version);
