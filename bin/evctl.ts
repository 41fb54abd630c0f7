#!/usr/bin/env node
import { Interrupted, type PlanQuery } from '../src/cli/context.js';
import { evctl } from '../src/cli/evctl.js';
import { QueryError } from '../src/query/errors.js';

const interrupt = new AbortController();
process.once('SIGINT', () => interrupt.abort(new Interrupted()));

/** eventd's own planner, loaded when somebody asks. */
const plan: PlanQuery = async (text, settings) => {
  const { interpret } = await import('../actors/query/interpret.js');
  const query = interpret(text, {
    crossTypeWindowMs: settings.CrossTypeWindowMs,
    crossTypeMaxLookbackSeconds: settings.CrossTypeMaxLookbackSeconds,
  });
  if (query.kind === 'index') throw new QueryError('V', 'unsupported', 'EVENTS INDEX reads nothing');
  return query.plan().job;
};

const code = await evctl(process.argv.slice(2), process.env, process, interrupt.signal, plan);
// Standard input may still be open (a pipe nobody closes); nothing is left to be done for it.
process.exit(code);
