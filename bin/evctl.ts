#!/usr/bin/env node
import { Interrupted } from '../src/cli/context.js';
import { evctl } from '../src/cli/evctl.js';

const interrupt = new AbortController();
process.once('SIGINT', () => interrupt.abort(new Interrupted()));

const code = await evctl(process.argv.slice(2), process.env, process, interrupt.signal);
// Standard input may still be open (a pipe nobody closes); nothing is left to be done for it.
process.exit(code);
