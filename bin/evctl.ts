#!/usr/bin/env node
import { Interrupted, type PlanQuery } from '../src/cli/context.js';
import { evctl } from '../src/cli/evctl.js';

const interrupt = new AbortController();
process.once('SIGINT', () => interrupt.abort(new Interrupted()));

/** eventd's own planner, loaded when somebody asks. */
const plan: PlanQuery = async (text, settings) => {
  const { unrestrictedJob } = await import('../actors/query/interpret.js');
  return unrestrictedJob(text, {
    crossTypeWindowMs: settings.CrossTypeWindowMs,
    crossTypeMaxLookbackSeconds: settings.CrossTypeMaxLookbackSeconds,
  });
};

const code = await evctl(process.argv.slice(2), process.env, process, interrupt.signal, plan);
// Standard input may still be open (a pipe nobody closes); nothing is left to be done for it.
process.exit(code);
