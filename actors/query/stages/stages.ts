/** Which function runs which kind of stage. */
import type { Stage } from '../../../src/query/job.js';
import type { StageContext, StageRunner } from './context.js';
import { runCopy } from './copy.js';
import { runMetric } from './metric.js';
import { runRanges } from './ranges.js';

const RUNNERS: { readonly [Kind in Stage['kind']]: StageRunner<Extract<Stage, { kind: Kind }>> } = {
  copy: runCopy,
  ranges: runRanges,
  metric: runMetric,
};

/** Runs all stages of a job in their order. */
export function* runStages(stages: readonly Stage[], context: StageContext): Generator<void, void, void> {
  for (const stage of stages) {
    yield* (RUNNERS[stage.kind] as StageRunner<Stage>)(stage, context);
    yield;
  }
}
