/** The stage `metric`: computes a METRIC query over series and samples into the scratch database. */
import type { MetricStage, Statement } from '../../../src/query/job.js';
import { metricTypeError } from '../../../src/query/metricComputation.js';
import { memoryExceeded } from '../scratch.js';
import type { StageContext } from './context.js';

/** Samples of one turn, some ten milliseconds of work, and bytes of result rows after which it ends. */
const SLICE_SAMPLES = 10_000;
const SLICE_BYTES = 128 * 1024;

/** By how much the memory of a computation grows beyond what it needs at the moment. */
const MEMORY_STEP_BYTES = 256 * 1024;

export function* runMetric(stage: MetricStage, context: StageContext): Generator<void, void, void> {
  const { native, scratch } = context;
  context.execute(() => scratch.exec(stage.into.create));
  const bound = ({ sql, params }: Statement) => ({ sql, params: context.bind(params) });
  const series = bound(stage.series);
  const samples = bound(stage.samples);
  const same = stage.same === null ? null : bound(stage.same);
  const metric = context.execute(() =>
    native.metricOpen({
      ...stage.computation,
      parts: context.connections('metrics').map(({ slot }) => ({
        series: { slot, ...series },
        samples: { slot, ...samples },
        same: same === null ? null : { slot, ...same },
      })),
      into: { slot: scratch.slot, unit: stage.into.unit, row: stage.into.row },
    }),
  );
  try {
    for (let room = SLICE_BYTES, memory = 0; ; ) {
      scratch.makeRoom(room);
      const step = context.execute(() => native.metricStep(metric, SLICE_SAMPLES, room, memory));
      if (step.rejected !== null) throw metricTypeError(stage.function, step.rejected);
      if (step.done) return;
      if (step.waitingMemory > memory) {
        const more = step.waitingMemory - memory + MEMORY_STEP_BYTES;
        if (!context.memory.reserve(more)) throw memoryExceeded(context.memory.limit);
        memory += more;
      }
      room = Math.max(SLICE_BYTES, step.waitingBytes);
      yield;
    }
  } finally {
    native.metricClose(metric);
  }
}
