#!/usr/bin/env node
import { devhost } from '../src/devhost/devhost.js';

process.exitCode = await devhost(process.argv.slice(2), process.env, process, (signal, listener) =>
  process.on(signal, listener),
);
